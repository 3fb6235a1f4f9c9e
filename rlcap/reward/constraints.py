"""Reward terms that are constraints: `target` in place of a fixed weight.

    hallucination:
      reward: hallucination
      target: 0.6          # a mean of at least .6 over the captions of a round; `start` is the mean of the first round
      weight: 1.0          # where the multiplier begins

All rewards are better when higher, so a target is always a lower bound. A band, such as that of length, is the reward's own business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlcap.algo.multipliers import update_multiplier

LARGEST = 10.0
"""Bound of a multiplier. A target that can't be reached would otherwise drown all other terms."""


class Constraints:
    """The multipliers of a mix's constrained terms. They are the weights of these terms.

    Args:
        names: names of the K terms.
        weights: K weights; those of constrained terms are where the multipliers begin.
        targets: K targets; None for a term with a fixed weight.
        rate: step of a multiplier per round and std of shortfall.
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        targets: Sequence[float | str | None],
        rate: float = 0.1,
    ) -> None:
        self.names, self.rate = tuple(names), rate
        self.weights = [float(weight) for weight in weights]
        self.targets = list(targets)

    def __bool__(self) -> bool:
        return any(target is not None for target in self.targets)

    def update(self, means: Sequence[float], stds: Sequence[float]) -> None:
        """Move the multipliers after a round.

        Args:
            means: K means of the terms over the captions of all processes; NaN where all abstained.
            stds: K stds of the terms over captions.
        """
        for k, (target, mean, std) in enumerate(zip(self.targets, means, stds, strict=True)):
            if target == "start" and not math.isnan(mean):
                target = self.targets[k] = float(mean)
            if isinstance(target, int | float):
                self.weights[k] = update_multiplier(self.weights[k], mean, target, std, self.rate, LARGEST)

    def metrics(self) -> dict[str, float]:
        """Return `<term>/multiplier` and `<term>/target` of each constrained term, for the log."""
        values = {}
        for name, weight, target in zip(self.names, self.weights, self.targets, strict=True):
            if target is not None:
                values[f"{name}/multiplier"] = weight
            if isinstance(target, int | float):
                values[f"{name}/target"] = float(target)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return weight and target of each constrained term, for JSON."""
        rows = zip(self.names, self.weights, self.targets, strict=True)
        return {name: [weight, target] for name, weight, target in rows if target is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for k, name in enumerate(self.names):
            if name in state:
                self.weights[k], self.targets[k] = state[name]
