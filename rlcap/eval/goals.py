"""Which variant reaches the goals best, and how surely: in words, for people who choose a reward mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlcap.eval.metric_catalog import HEADLINES, canonical_name, metric_info
from rlcap.eval.statistics import Clusters, Interval, difference_across_seeds, mean_across_seeds

Columns = Mapping[str, Sequence[Sequence[np.ndarray]]]
"""Metric → for each variant, for each of its seeds the (N,) values of the same images."""


@dataclass(frozen=True, slots=True)
class Goal:
    """How well each variant reaches a goal."""

    name: str
    """The goal, such as "More faithful"."""
    metric: str
    """The metric that measures it."""
    values: tuple[Interval, ...]
    """The mean of each variant."""
    best: int
    """Index of the variant with the best mean."""
    clear: tuple[int, ...]
    """Indices of the variants whose difference to the best has an interval that excludes zero."""


def find_goals(columns: Columns, clusters: Clusters) -> tuple[Goal, ...]:
    """Return the goals that a metric of the variants measures, each by the first such metric of `HEADLINES`.

    Args:
        columns: The values of two or more variants.
        clusters: The cluster of each image.
    """
    by_name = {canonical_name(metric): metric for metric in columns}
    goals = []
    for name, metrics in HEADLINES:
        metric = next((by_name[own] for own in metrics if own in by_name), None)
        if metric is None:
            continue
        values = tuple(mean_across_seeds(runs, clusters) for runs in columns[metric])
        signed = [metric_info(metric).better * value.mean for value in values]
        if np.isnan(signed).any():
            continue
        best = int(np.argmax(signed))
        clear = []
        for other, runs in enumerate(columns[metric]):
            difference = difference_across_seeds(runs, columns[metric][best], clusters)
            if other != best and (difference.low > 0 or difference.high < 0):
                clear.append(other)
        goals.append(Goal(name, metric, values, best, tuple(clear)))
    return tuple(goals)


def undominated(goals: Sequence[Goal]) -> list[int]:
    """Return the indices of the variants that no other one beats or equals in all goals, by their means: the Pareto frontier."""
    count = len(goals[0].values) if goals else 0
    signed = [[metric_info(goal.metric).better * goal.values[i].mean for goal in goals] for i in range(count)]

    def dominates(other: list[float], own: list[float]) -> bool:
        return all(a >= b for a, b in zip(other, own, strict=True)) and other != own

    return [i for i in range(count) if not any(dominates(signed[j], signed[i]) for j in range(count))]


def describe_choice(goals: Sequence[Goal], names: Sequence[str]) -> str:
    """Return which variant to choose and how surely, as one sentence; "" without goals."""
    if not goals:
        return ""
    winners = {goal.best for goal in goals}
    others = [i for i in range(len(names)) if i not in winners]
    best_everywhere = set.intersection(*(_tied_best(goal) for goal in goals))
    if best_everywhere:
        winner = min(best_everywhere)
        surely = [goal for goal in goals if set(goal.clear) == set(range(len(names))) - {winner}]
        number = f"all {len(goals)}" if len(surely) == len(goals) > 1 else f"{len(surely)} of {len(goals)}"
        sure = (
            f"clearly in {number}"
            if surely
            else "but clearly in none, so that another seed or other images may decide otherwise"
        )
        return f"{names[winner]} is best at every goal, {sure}."
    parts = [_describe_best(goal, names) for goal in sorted(goals, key=lambda goal: -len(goal.clear))]
    left = [names[i] for i in others if i not in undominated(goals)]
    dominated = f" {_join(left)} {'is' if len(left) == 1 else 'are'} beaten in all of them." if left else ""
    return f"No variant is best at everything: {_join(parts)}.{dominated}"


def _tied_best(goal: Goal) -> set[int]:
    """Return the indices of all variants with the best mean."""
    return {i for i, value in enumerate(goal.values) if value.mean == goal.values[goal.best].mean}


def _describe_best(goal: Goal, names: Sequence[str]) -> str:
    what = goal.name.lower().replace("more", "the most")
    if len(goal.clear) == len(names) - 1:
        return f"{names[goal.best]} is clearly {what}"
    return f"{names[goal.best]} is {what} by its mean, but not clearly"


def describe_goal(goal: Goal, names: Sequence[str]) -> str:
    """Return who is best at a goal, and over whom clearly, as one sentence."""
    info = metric_info(goal.metric)
    clear = [names[i] for i in goal.clear]
    unclear = [name for i, name in enumerate(names) if i != goal.best and i not in goal.clear]
    value = goal.values[goal.best]
    text = f"{goal.name}: {names[goal.best]}, {info.format(value.mean)} [{info.format(value.low)}, {info.format(value.high)}] “{info.label}”"
    if clear:
        text += f"; clearly better than {_join(clear)}"
    if unclear:
        text += f"; no clear difference to {_join(unclear)}"
    return text + "."


def _join(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)
