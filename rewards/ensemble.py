"""Ensemble: what do several judges together think of the caption?

measures  r = mean, median or majority of the members' values; it abstains where too few members judged or where they
          disagree
range     that of its members, such as [-1, 0]; all members must share one
needs     what its members need
cost      the sum of its members' costs; members that wait for a server are asked at the same time
source    Coste et al. 2024 (arXiv 2310.02743): ensembles of reward models against over-optimization. They take the
          worst case where members disagree; this reward abstains
hack      what all members like for the same wrong reason
guards    members of different kinds; `spread`, above which a disagreement leads to an abstention
fails     not measured; it depends on its members
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlcap.config.imports import build, unknown
from rlcap.errors import ConfigError
from rlcap.judge.usage import UsageStats
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import resolve_reward
from rlcap.types import RewardBatch, Score


def value_spread(values: Sequence[float]) -> float:
    """Return the highest minus the lowest value."""
    return max(values) - min(values)


def majority(values: Sequence[float], within: float = 0.0) -> float | None:
    """Return the mean of the largest set of values that lie no more than `within` apart.

    Among several sets of that size, the narrowest counts, and then the lowest: (1, 1, 0) gives 1, and (.2, .3, .9)
    within .1 gives .25.

    Args:
        values: the members' values.
        within: the largest allowed distance between the highest and the lowest value of the set.

    Returns:
        The mean, or None where the set does not hold more than half of all values.
    """
    ordered = sorted(values)
    runs = [ordered[i:j] for i in range(len(ordered)) for j in range(i + 1, len(ordered) + 1)]
    runs = [run for run in runs if 2 * len(run) > len(ordered) and value_spread(run) <= within + 1e-9]
    if not runs:
        return None
    best = min(runs, key=_rank_run)
    return statistics.fmean(best)


def _rank_run(run: Sequence[float]) -> tuple[int, float, float]:
    """Sort the largest set first, then the narrowest, then the lowest."""
    return -len(run), value_spread(run), run[0]


class Ensemble(Reward):
    """Several rewards pooled into one.

    A configuration names the members as a mix names its rewards:

        panel:
          reward: ensemble
          params:
            how: median
            spread: 0.6
            members:
              small: {reward: critique, params: {judge: "openai:gpt-4o-mini"}}
              other: {reward: critique, params: {judge: "litellm:gemini/gemini-2.0-flash"}}
              terse: {reward: critique, params: {judge: {backend: "openai:gpt-4o-mini", prompt: terse.txt}}}

    A caption that fewer than `quorum` members could judge abstains, and so does one on which the members disagree.

    Args:
        members: name → a reward, or `{reward: module:Class, params: …}`; at least two, all of one range.
        how: mean, median, or majority (the mean of the more than half that agree to within `spread`).
        spread: members whose values lie further apart than this disagree. null: they never disagree (for majority: 0,
            the same value).
        quorum: how many members must have judged. null: all of them, because otherwise a caption that the strictest
            member could not judge would be favoured over its siblings.

    Raises:
        ConfigError: for an unknown pooling, fewer than two members, members of different ranges, or an impossible
            quorum.
    """

    name, version = "ensemble", "1"

    def __init__(
        self,
        members: Mapping[str, Any],
        how: Literal["mean", "median", "majority"] = "median",
        spread: float | None = None,
        quorum: int | None = None,
    ) -> None:
        if how not in ("mean", "median", "majority") or not (spread is None or spread >= 0):
            raise ConfigError(
                f"how must be mean, median or majority, and spread at least 0 or null; got {how!r} and {spread}"
            )
        if len(members) < 2:
            raise ConfigError(f"an ensemble needs at least two members, got {len(members)}")
        self.members = {str(name): _member(str(name), entry) for name, entry in members.items()}
        ranges = {name: (float(member.range[0]), float(member.range[1])) for name, member in self.members.items()}
        if len(set(ranges.values())) > 1:
            raise ConfigError(f"the members of an ensemble must share one range, got {ranges}")
        self.quorum = len(members) if quorum is None else quorum
        if not 1 <= self.quorum <= len(members):
            raise ConfigError(f"quorum must be from 1 to {len(members)}, the number of members, got {quorum}")
        self.how, self.spread = how, spread
        self.range = next(iter(ranges.values()))
        self.needs = frozenset().union(*(member.needs for member in self.members.values()))
        self.group_dependent = any(member.group_dependent for member in self.members.values())
        self.judges = tuple(judge for member in self.members.values() for judge in member.judges)

    async def ascore(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions with all members at once, and log each member's mean and abstention rate."""
        outputs = await asyncio.gather(*(member.ascore(batch) for member in self.members.values()))
        rows = zip(
            *(m.check_output(o, batch) for m, o in zip(self.members.values(), outputs, strict=True)), strict=True
        )
        scores = [self.pooled(dict(zip(self.members, row, strict=True))) for row in rows]
        metrics = {"disagreed": sum((s.reason or "").startswith("disagree") for s in scores) / max(len(scores), 1)}
        for name, member_scores in zip(self.members, outputs, strict=True):
            values = [score.value for score in member_scores if score.value is not None]
            metrics[f"{name}/abstain_rate"] = (
                1 - len(values) / max(len(member_scores), 1) if len(member_scores) else 0.0
            )
            if values:
                metrics[f"{name}/mean"] = statistics.fmean(values)
        usage = [output.usage for output in outputs if output.usage is not None]
        return RewardOutput(scores, metrics, UsageStats.sum(usage) if usage else None)

    def pooled(self, scores: Mapping[str, Score]) -> Score:
        """Return one score for the members' scores of one caption."""
        note = "\n\n".join(f"{name}: {score.note}" for name, score in scores.items() if score.note) or None
        judged = {name: score.value for name, score in scores.items() if score.value is not None}
        if len(judged) < self.quorum:
            reasons = "; ".join(f"{name}: {score.reason}" for name, score in scores.items() if score.abstained)
            return Score.abstain(
                f"{len(judged)} of {len(scores)} members judged, {self.quorum} needed ({reasons})", note
            )
        values = list(judged.values())
        if self.how == "majority":
            value = majority(values, self.spread or 0.0)
        elif self.spread is not None and value_spread(values) > self.spread + 1e-9:
            value = None
        else:
            value = statistics.fmean(values) if self.how == "mean" else statistics.median(values)
        if value is None:
            listed = ", ".join(f"{name} {value:.3g}" for name, value in judged.items())
            return Score.abstain(f"disagree by more than {self.spread or 0:g}: {listed}", note)
        return Score(value, note=note)


def _member(name: str, entry: Any) -> Reward:
    if isinstance(entry, Reward):
        return entry
    if not isinstance(entry, Mapping) or "reward" not in entry:
        raise ConfigError(f"members.{name} must be a mapping with `reward: module:Class`, got {entry!r:.60}")
    for key in entry:
        if key not in ("reward", "params"):
            raise ConfigError(f"members.{name}: {unknown('key', str(key), ('reward', 'params'))}")
    try:
        reward: Reward = build(resolve_reward(entry["reward"]), entry.get("params") or {}, what=entry["reward"])
        return reward
    except ConfigError as error:
        raise ConfigError(f"members.{name}: {error}") from error
