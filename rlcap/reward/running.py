"""The running scale of each component: what `normalize: running` divides by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class RunningScale:
    """Exponential average of each component's pooled within-group variance, corrected for its start.

    Feed it `Advantages.std_pooled`, computed from the values of *all* processes, so that every process keeps the same
    numbers. decay: weight of the past at each step, in [0, 1); .99 looks back about a hundred steps.
    """

    def __init__(self, names: Sequence[str], decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.names, self.decay = tuple(names), decay
        self.variance = [0.0] * len(self.names)
        self.mass = [0.0] * len(self.names)

    def update(self, stds: Sequence[float]) -> None:
        """One step's pooled std a component; NaN (no group had two judged captions) leaves it as it is."""
        if len(stds) != len(self.names):
            raise ValueError(f"{len(stds)} stds for the components {', '.join(self.names)}")
        for k, std in enumerate(float(s) for s in stds):
            if not math.isnan(std):
                self.variance[k] = self.decay * self.variance[k] + (1 - self.decay) * std * std
                self.mass[k] = self.decay * self.mass[k] + (1 - self.decay)

    def stds(self) -> list[float]:
        """One scale a component; NaN before its first step."""
        return [math.sqrt(v / m) if m else math.nan for v, m in zip(self.variance, self.mass, strict=True)]

    def state_dict(self) -> dict[str, list[float]]:
        """JSON-able: component → [variance, mass]."""
        return {name: [v, m] for name, v, m in zip(self.names, self.variance, self.mass, strict=True)}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Take up the averages; components that the state doesn't know start afresh."""
        pairs = [state.get(name, (0.0, 0.0)) for name in self.names]
        self.variance, self.mass = [float(v) for v, _ in pairs], [float(m) for _, m in pairs]
