"""The mix: several rewards by name, each with a weight and a normalisation.

    self_retrieval:
      reward: rlcap.rewards.self_retrieval:SelfRetrieval
      weight: 1.0
      normalize: group          # group | batch | running | none, see rlcap.algo.advantages
      params: {clip: ViT-B-32, pretrained: openai}
    length:
      reward: rlcap.rewards.length:Length
      weight: 0.5

A mix scores; it neither sums nor normalises. The trainer gathers the values of all processes and hands them, with
`mix.weights`, `mix.normalize`, `mix.reward_ranges` and `mix.running.stds()`, to `rlcap.algo.advantages.combine`, and its
`std_pooled` back to `mix.running.update` (and the values to `mix.moments.update`, for the forms that compare with past
captions).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcap.config.imports import build, check_params, resolve, unknown
from rlcap.errors import ConfigError
from rlcap.reward import runner
from rlcap.reward.abstention import AbstentionMonitor
from rlcap.reward.base import Reward
from rlcap.reward.running_statistics import RunningMoments, RunningStd
from rlcap.types import RewardBatch, Score

if TYPE_CHECKING:
    from torch import Tensor

NORMALIZE = ("group", "batch", "running", "none")
KEYS = ("reward", "weight", "normalize", "params")


@dataclass(frozen=True, slots=True)
class RewardTerm:
    """One reward of a mix."""

    reward: Reward
    weight: float = 1.0
    """Finite; 0 scores and logs without pushing; negative pushes away."""
    normalize: str = "group"
    """What its centred value is divided by: group, batch, running or none."""

    def __post_init__(self) -> None:
        _check_weight(self.reward.name, self.weight, self.normalize)


@dataclass(frozen=True, slots=True)
class MixScores:
    """What a mix says of N captions."""

    names: tuple[str, ...]
    values: Tensor
    """(N, K) float32, NaN where component k abstained on caption i."""
    scores: Mapping[str, list[Score]]
    """By component, with reasons and notes."""
    weights: tuple[float, ...]
    metrics: Mapping[str, float]
    """`<component>/mean`, `weighted_mean`, `std_batch`, `abstain_rate`, `seconds`, and whatever the reward measured
    itself; mean and std are left out where it abstained on all."""


def check_mix(config: Mapping[str, Mapping[str, Any]], given: Iterable[str]) -> None:
    """Whether `RewardMix.from_config` can build this, as far as can be known without loading a model: before data are read.

    given: names of the context's values. Raises ConfigError on unknown keys, paths, parameters and choices, naming the
    component and the known ones. The modules that hold the rewards are imported.
    """
    for name, entry in config.items():
        if not isinstance(entry, Mapping) or "reward" not in entry:
            raise ConfigError(f"mix.{name}: needs a mapping with `reward: module:Class`, got {entry!r}")
        for key in entry:
            if key not in KEYS:
                raise ConfigError(f"mix.{name}: {unknown('key', str(key), KEYS)}")
        for key, kinds, wanted in (("reward", str, "module:Class"), ("params", Mapping | None, "a mapping")):
            if not isinstance(entry.get(key), kinds):
                raise ConfigError(f"mix.{name}.{key} must be {wanted}, got {entry[key]!r}")
        try:
            check_params(resolve(entry["reward"], Reward), entry.get("params") or {}, given, entry["reward"])
        except ConfigError as error:
            raise ConfigError(f"mix.{name}: {error}") from error
        _check_weight(f"mix.{name}", entry.get("weight", 1.0), entry.get("normalize", "group"))


def _check_weight(what: str, weight: Any, normalize: Any) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ConfigError(f"weight of {what} must be a finite number, got {weight!r}")
    if normalize not in NORMALIZE:
        raise ConfigError(unknown(f"normalize of {what}", str(normalize), NORMALIZE))


class RewardMix:
    """Rewards by name. `RewardMix.from_config(mapping)` builds it from YAML, `RewardMix({name: RewardTerm(...)})` by hand.

    max_abstain, window: see `AbstentionMonitor`. decay: see `RunningStd`.
    """

    def __init__(
        self, components: Mapping[str, RewardTerm], max_abstain: float = 0.5, window: int = 512, decay: float = 0.99
    ) -> None:
        if not components:
            raise ConfigError("the mix is empty: name at least one reward")
        self.components = dict(components)
        self.names = tuple(self.components)
        self.weights = tuple(float(c.weight) for c in self.components.values())
        self.normalize = tuple(c.normalize for c in self.components.values())
        self.reward_ranges = tuple(c.reward.range[1] - c.reward.range[0] for c in self.components.values())
        self.guard = AbstentionMonitor(self.names, max_abstain, window, min(64, window))
        self.running = RunningStd(self.names, decay)
        self.moments = RunningMoments(self.names)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Mapping[str, Any]], context: Mapping[str, Any] | None = None, **options: Any
    ) -> RewardMix:
        """From the mapping of the module docstring.

        context: values that the caller knows (device, gallery, cache_dir, …), passed to every reward whose constructor
        has a parameter of that name and whose `params` don't set it. options: as for the constructor.
        Raises ConfigError on unknown keys, paths, parameters and choices, naming the component and the known ones.
        """
        check_mix(config, context or {})
        components = {}
        for name, entry in config.items():
            try:
                reward = build(resolve(entry["reward"], Reward), entry.get("params") or {}, context, entry["reward"])
            except ConfigError as error:
                raise ConfigError(f"mix.{name}: {error}") from error
            components[name] = RewardTerm(reward, entry.get("weight", 1.0), entry.get("normalize", "group"))
        return cls(components, **options)

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """By component, what its rows must carry."""
        return {name: component.reward.needs for name, component in self.components.items()}

    def reward(self, name: str) -> Reward:
        """The reward of that name; ConfigError lists the known ones."""
        if name not in self.components:
            raise ConfigError(unknown("component", name, self.names))
        return self.components[name].reward

    def score(self, batch: RewardBatch) -> MixScores:
        """All components' scores of the batch, asked concurrently (see `rlcap.reward.runner`).

        Raises RewardError where a component fails, ExcessiveAbstentionError where one mostly abstains; both name it.
        """
        import torch

        outcomes = runner.run({name: component.reward for name, component in self.components.items()}, batch)
        values = torch.full((len(batch), len(self.names)), torch.nan)
        metrics: dict[str, float] = {}
        for k, (name, outcome) in enumerate(outcomes.items()):
            judged = [score.value for score in outcome.scores if score.value is not None]
            for i, score in enumerate(outcome.scores):
                if score.value is not None:
                    values[i, k] = score.value
            metrics |= {f"{name}/{key}": float(value) for key, value in outcome.metrics.items()}
            metrics[f"{name}/seconds"] = outcome.seconds
            metrics[f"{name}/abstain_rate"] = 1 - len(judged) / len(batch) if len(batch) else 0.0
            if judged:
                mean = sum(judged) / len(judged)
                metrics[f"{name}/mean"] = mean
                metrics[f"{name}/weighted_mean"] = self.weights[k] * mean
                metrics[f"{name}/std_batch"] = (sum((v - mean) ** 2 for v in judged) / max(len(judged) - 1, 1)) ** 0.5
            self.guard.watch(name, outcome.scores)
        return MixScores(
            self.names, values, {name: outcome.scores for name, outcome in outcomes.items()}, self.weights, metrics
        )

    @property
    def stop_reason(self) -> str | None:
        """Why the run should stop after this step, with a checkpoint: a judge's budget has no room for another batch. Or
        None. A step that goes on regardless spends what is left, and then its captions abstain."""
        reasons = ((name, component.reward.stop_reason) for name, component in self.components.items())
        return next((f"reward component {name!r}: {reason}" for name, reason in reasons if reason), None)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: the guard's window, what is known from past rounds, and what judges have cost, for checkpoints."""
        return {
            "guard": self.guard.state_dict(),
            "running": self.running.state_dict(),
            "moments": self.moments.state_dict(),
            "budgets": {
                name: [judge.budget.state_dict() for judge in component.reward.judges]
                for name, component in self.components.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a `state_dict`; a state of other components is refused, naming both sides."""
        if set(state["running"]) != set(self.names):
            raise ConfigError(
                f"checkpoint mix {sorted(state['running'])} does not match the configured mix {sorted(self.names)}; "
                f"resume with the mix that the run was started with"
            )
        self.guard.load_state_dict(state["guard"])
        self.running.load_state_dict(state["running"])
        self.moments.load_state_dict(state.get("moments", {}))
        for name, budgets in state.get("budgets", {}).items():
            for judge, budget in zip(self.components[name].reward.judges, budgets, strict=False):
                judge.budget.load_state_dict(budget)
