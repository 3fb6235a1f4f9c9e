"""The reward mix: several rewards by name, each with a weight and a normalisation.

    self_retrieval:
      reward: self_retrieval    # a shipped reward's short name, module:Class, or file.py:Class
      weight: 1.0
      normalize: group          # group | batch | running | none, see rlcap.algo.advantages
      credit_share: 0.3         # share that goes to the words that the reward is about, see rlcap.algo.credit
      params: {clip: ViT-B-32, pretrained: openai}
    length:
      reward: length
      weight: 0.5

A mix scores; it neither sums nor normalises. The trainer gathers the values of all processes and hands them, with `mix.weights`,
`mix.normalize`, `mix.reward_ranges` and `mix.running.stds()`, to `rlcap.algo.advantages.combine`. It hands the resulting `std_pooled` back
to `mix.running.update`, and the values to `mix.observe_round`, for constrained terms and the forms that compare with past captions.
`mix.credit_running` and `mix.credit_moments` do the same for what rewards say of single words (`rlcap.algo.credit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rlcap.config.imports import build, check_params, resolve, unknown
from rlcap.config.schema import Normalize
from rlcap.errors import ConfigError
from rlcap.reward.abstention import AbstentionMonitor
from rlcap.reward.base import Reward
from rlcap.reward.cards import reward_path
from rlcap.reward.constraints import Constraints
from rlcap.reward.runner import score_all
from rlcap.reward.running_statistics import RunningMoments, RunningStd
from rlcap.types import RewardBatch, Score

if TYPE_CHECKING:
    from torch import Tensor

NORMALIZE: tuple[str, ...] = get_args(Normalize)
"""What a term's centred value may be divided by."""
KEYS = ("reward", "weight", "target", "normalize", "credit_share", "params")
"""Keys of a term in a configuration."""


@dataclass(frozen=True, slots=True)
class RewardTerm:
    """One reward of a mix.

    Raises:
        ConfigError: for a weight that is not finite, or an unknown normalisation.
    """

    reward: Reward
    """What judges."""
    weight: float = 1.0
    """Finite. 0 scores and logs without any effect on training; a negative weight pushes away."""
    normalize: Normalize = "group"
    """What the centred value is divided by: group, batch, running or none."""
    credit_share: float | None = None
    """Share in [0, 1] of the term that goes to the words that it is about instead of the whole caption; None takes the trainer's."""
    target: float | Literal["start"] | None = None
    """The mean that the term shall reach, by a weight that adapts (`rlcap.reward.constraints`); None for a fixed weight."""

    def __post_init__(self) -> None:
        _check_weight(self.reward.name, self.weight, self.normalize, self.credit_share)
        _check_target(self.reward.name, self.target, self.weight, self.reward.range)


@dataclass(frozen=True, slots=True)
class MixScores:
    """What a mix says of N captions."""

    names: tuple[str, ...]
    """The K terms."""
    values: Tensor
    """(N, K) float32, NaN where term k abstained on caption i."""
    scores: Mapping[str, list[Score]]
    """N scores by term, with reasons and notes."""
    weights: tuple[float, ...]
    """K weights."""
    metrics: Mapping[str, float]
    """`<term>/mean`, `weighted_mean`, `std_batch`, `abstain_rate`, `seconds`, and whatever the reward measured itself. Mean and std are
    left out where the term abstained on all captions."""


def check_mix(config: Mapping[str, Mapping[str, Any]], provided: Iterable[str]) -> None:
    """Check whether `RewardMix.from_config` can build a mix, as far as this is known without loading a model.

    The modules that hold the rewards are imported.

    Args:
        config: name → term, as in the module's docstring.
        provided: names of the values in the context.

    Raises:
        ConfigError: for unknown keys, paths, parameters and choices; it has a line for each bad term.
    """
    problems = []
    for name, entry in config.items():
        try:
            _check_term(name, entry, provided)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _check_term(name: str, entry: Any, provided: Iterable[str]) -> None:
    """Raise ConfigError for the first problem of a term."""
    if not isinstance(entry, Mapping) or "reward" not in entry:
        raise ConfigError(f"mix.{name}: needs a mapping with `reward: module:Class`, got {entry!r}")
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"mix.{name}: {unknown('key', str(key), KEYS)}")
    for key, kinds, wanted in (("reward", str, "a name or module:Class"), ("params", Mapping | None, "a mapping")):
        if not isinstance(entry.get(key), kinds):
            raise ConfigError(f"mix.{name}.{key} must be {wanted}, got {entry[key]!r}")
    try:
        check_params(resolve_reward(entry["reward"]), entry.get("params") or {}, provided, entry["reward"])
    except ConfigError as error:
        raise ConfigError(f"mix.{name}: {error}") from error
    weight = entry.get("weight", 1.0)
    _check_weight(f"mix.{name}", weight, entry.get("normalize", "group"), entry.get("credit_share"))
    # Parameters can change the range, which is then known only once the reward is built.
    bounds = (-math.inf, math.inf) if entry.get("params") else resolve_reward(entry["reward"]).range
    if isinstance(bounds, tuple):
        _check_target(f"mix.{name}", entry.get("target"), weight, bounds)


def resolve_reward(name: str) -> type[Reward]:
    """Return the reward class of a short name (`clip_score`) or a dotted path (`my_module:MyReward`).

    Raises:
        ConfigError: where there is no such reward; it names the nearest one.
    """
    reward: type[Reward] = resolve(reward_path(name), Reward)
    return reward


def _check_weight(what: str, weight: Any, normalize: Any, credit_share: Any) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ConfigError(f"weight of {what} must be a finite number, got {weight!r}")
    if normalize not in NORMALIZE:
        raise ConfigError(unknown(f"normalize of {what}", str(normalize), NORMALIZE))
    if credit_share is not None and (isinstance(credit_share, bool) or not 0 <= credit_share <= 1):
        raise ConfigError(f"credit_share of {what} must be a share in [0, 1], got {credit_share!r}")


def _check_target(what: str, target: Any, weight: float, bounds: tuple[float, float]) -> None:
    if target is None or target == "start":
        return
    if isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target):
        raise ConfigError(f"target of {what} must be a number or start, got {target!r}")
    if not bounds[0] <= target <= bounds[1]:
        raise ConfigError(
            f"target of {what} is {target:g}, but its values lie in [{bounds[0]:g}, {bounds[1]:g}]: it could never be met, or never "
            "missed"
        )
    if weight < 0:
        raise ConfigError(f"weight of {what} is where its multiplier begins, and must be 0 or more, got {weight:g}")


class RewardMix:
    """Rewards by name. `RewardMix.from_config(mapping)` builds it from YAML, `RewardMix({name: RewardTerm(…)})` by hand.

    Args:
        terms: name → term.
        max_abstain: largest share of recent captions on which a term may abstain; see `AbstentionMonitor`.
        window: captions that the abstention monitor looks back on.
        decay: weight of the past in the running std; see `RunningStd`.
        target_rate: step of the multipliers of constrained terms; see `Constraints`.

    Raises:
        ConfigError: for an empty mix.
    """

    def __init__(
        self,
        terms: Mapping[str, RewardTerm],
        max_abstain: float = 0.5,
        window: int = 512,
        decay: float = 0.99,
        target_rate: float = 0.1,
    ) -> None:
        if not terms:
            raise ConfigError("the mix is empty: name at least one reward")
        self.terms = dict(terms)
        self.names = tuple(self.terms)
        self.constraints = Constraints(
            self.names,
            [term.weight for term in self.terms.values()],
            [term.target for term in self.terms.values()],
            target_rate,
        )
        self.normalize = tuple(term.normalize for term in self.terms.values())
        self.reward_ranges = tuple(term.reward.range[1] - term.reward.range[0] for term in self.terms.values())
        self.abstentions = AbstentionMonitor(self.names, max_abstain, window, min(64, window))
        self.running = RunningStd(self.names, decay)
        self.moments = RunningMoments(self.names)
        self.credit_running = RunningStd(self.names, decay)
        self.credit_moments = RunningMoments(self.names)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Mapping[str, Any]], context: Mapping[str, Any] | None = None, **options: Any
    ) -> RewardMix:
        """Build a mix from the mapping of the module's docstring.

        Args:
            config: name → term.
            context: values that the caller knows (device, gallery, …). They are passed to every reward whose constructor has a parameter
                of that name, unless the term's `params` set it.
            **options: as for the constructor.

        Raises:
            ConfigError: for unknown keys, paths, parameters and choices; it names the term and what is known.
        """
        check_mix(config, context or {})
        terms = {}
        for name, entry in config.items():
            try:
                reward = build(resolve_reward(entry["reward"]), entry.get("params") or {}, context, entry["reward"])
            except ConfigError as error:
                raise ConfigError(f"mix.{name}: {error}") from error
            terms[name] = RewardTerm(
                reward,
                entry.get("weight", 1.0),
                entry.get("normalize", "group"),
                entry.get("credit_share"),
                entry.get("target"),
            )
        return cls(terms, **options)

    def describe(self) -> str:
        """Return the terms with their weights, for the start of a run, and say which are not trained towards."""
        goals = [term.target for term in self.terms.values()]
        terms = ", ".join(
            f"{name} × {weight:g}" if goal is None else f"{name} to at least {goal} (multiplier begins at {weight:g})"
            for name, weight, goal in zip(self.names, self.weights, goals, strict=True)
        )
        lines = [f"rewards: {terms}"]
        for name, weight in zip(self.names, self.weights, strict=True):
            if weight < 0:
                lines.append(
                    f"rewards: WARNING: {name} has the negative weight {weight:g}, so captions that it prefers are avoided"
                )
            elif weight == 0 and self.terms[name].target is None:
                lines.append(f"rewards: {name} has weight 0; it is logged and has no effect on training")
        return "\n".join(lines)

    @property
    def weights(self) -> tuple[float, ...]:
        """The K weights at present: fixed ones, and the multipliers of constrained terms."""
        return tuple(self.constraints.weights)

    def observe_round(self, values: Tensor) -> None:
        """Learn from the values of a round, after its advantages were computed: moments of the terms, and multipliers.

        Args:
            values: (N, K) values of the captions of all processes; NaN where a term abstained.
        """
        self.moments.update(values.T.tolist())
        self.constraints.update(values.double().nanmean(0).tolist(), self.moments.stds())

    def credit_shares(self, default: float) -> list[float]:
        """Return for each term the share, in [0, 1], that goes to words instead of the whole caption.

        Args:
            default: the share of terms that name none.
        """
        return [default if term.credit_share is None else term.credit_share for term in self.terms.values()]

    def use_captioner(self, captioner: Any) -> None:
        """Show each reward the captioner that is trained, before training begins; see `Reward.use_captioner`."""
        for term in self.terms.values():
            term.reward.use_captioner(captioner)

    @property
    def needs(self) -> dict[str, frozenset[str]]:
        """By term, what its rows must carry."""
        return {name: term.reward.needs for name, term in self.terms.items()}

    def reward(self, name: str) -> Reward:
        """Return the reward of a term.

        Raises:
            ConfigError: where there is no such term; it lists the known ones.
        """
        if name not in self.terms:
            raise ConfigError(unknown("reward term", name, self.names))
        return self.terms[name].reward

    def score(self, batch: RewardBatch) -> MixScores:
        """Score a batch by all terms, at the same time where they wait (see `rlcap.reward.runner`).

        Raises:
            RewardError: where a term fails; it names the term.
        """
        import torch

        outputs = score_all({name: term.reward for name, term in self.terms.items()}, batch)
        values = torch.full((len(batch), len(self.names)), torch.nan)
        metrics: dict[str, float] = {}
        for k, (name, timed) in enumerate(outputs.items()):
            judged = [score.value for score in timed.output if score.value is not None]
            for i, score in enumerate(timed.output):
                if score.value is not None:
                    values[i, k] = score.value
            metrics |= {f"{name}/{key}": float(value) for key, value in timed.log_values.items()}
            metrics[f"{name}/seconds"] = timed.seconds
            metrics[f"{name}/abstain_rate"] = 1 - len(judged) / len(batch) if len(batch) else 0.0
            if judged:
                mean = sum(judged) / len(judged)
                metrics[f"{name}/mean"] = mean
                metrics[f"{name}/weighted_mean"] = self.weights[k] * mean
                metrics[f"{name}/std_batch"] = (sum((v - mean) ** 2 for v in judged) / max(len(judged) - 1, 1)) ** 0.5
            self.abstentions.watch(name, timed.output.scores)
        metrics |= self.constraints.metrics()
        scores = {name: list(timed.output.scores) for name, timed in outputs.items()}
        return MixScores(self.names, values, scores, self.weights, metrics)

    @property
    def stop_reason(self) -> str | None:
        """Why the run should stop after this step with a checkpoint, or None.

        The reason is a judge's budget that has no room for another batch, or a term that abstains on most captions, as it does while its
        judge is down. A step that goes on regardless spends what is left, and then its captions abstain.
        """
        if self.abstentions.stop_reason:
            return self.abstentions.stop_reason
        reasons = ((name, term.reward.stop_reason) for name, term in self.terms.items())
        return next(
            (f"reward term {name!r}: {reason}; raise its judge's limits" for name, reason in reasons if reason), None
        )

    def state_dict(self) -> dict[str, Any]:
        """Return a JSON-able state for checkpoints: statistics of past rounds, and what judges have cost.

        Recent abstentions are not part of it: a run that stopped because a judge was down starts with none when it is resumed.
        """
        return {
            "running": self.running.state_dict(),
            "moments": self.moments.state_dict(),
            "credit_running": self.credit_running.state_dict(),
            "credit_moments": self.credit_moments.state_dict(),
            "constraints": self.constraints.state_dict(),
            "budgets": {
                name: [judge.budget.state_dict() for judge in term.reward.judges] for name, term in self.terms.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`.

        Raises:
            ConfigError: where the state belongs to a mix of other terms; it names both.
        """
        if set(state["running"]) != set(self.names):
            raise ConfigError(
                f"checkpoint mix {sorted(state['running'])} does not match the configured mix {sorted(self.names)}; "
                f"resume with the mix that the run was started with"
            )
        self.running.load_state_dict(state["running"])
        self.moments.load_state_dict(state["moments"])
        self.credit_running.load_state_dict(state["credit_running"])
        self.credit_moments.load_state_dict(state["credit_moments"])
        self.constraints.load_state_dict(state["constraints"])
        for name, budgets in state["budgets"].items():
            for judge, budget in zip(self.terms[name].reward.judges, budgets, strict=True):
                judge.budget.load_state_dict(budget)
