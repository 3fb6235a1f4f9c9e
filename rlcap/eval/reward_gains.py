"""How far each reward term rises during training, in units of its own spread, from the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcap.eval.report.charts import smooth

RISE_THRESHOLD = 0.25
"""A reward term counts as risen above this gain, in standard deviations within a group."""
Rows = Sequence[Mapping[str, Any]]
"""Rows of metrics.jsonl, in order of step."""
Points = list[tuple[float, float]]
"""Pairs (step, value)."""


def metric_series(rows: Rows, name: str) -> Points:
    """Return (step, value) for each row that has the metric."""
    values = [(row["step"], row["metrics"].get(name)) for row in rows]
    return [(step, float(value)) for step, value in values if value is not None]


def reward_terms(rows: Rows) -> list[str]:
    """Return the names of the reward terms, in the order in which they were first logged."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    return [name.split("/")[1] for name in names if name.startswith("reward/") and name.endswith("/mean")]


def reward_gain(rows: Rows, term: str) -> Points:
    """Return the rise of a reward term since the start, as (step, gain).

    The start is the mean of the first 5 % of the points. The unit is the median standard deviation of the term within a
    group, that is among the captions of one image.
    """
    points = metric_series(rows, f"reward/{term}/mean")
    spread = [value for _, value in metric_series(rows, f"reward/{term}/std_within_group") if value > 0]
    unit = float(np.median(spread)) if spread else float(np.std([value for _, value in points])) or 1.0
    start = float(np.mean([value for _, value in points[: max(1, len(points) // 20)]]))
    return [(step, (value - start) / unit) for step, value in points]


def smoothing_window(points: Sequence[tuple[float, float]]) -> int:
    """Return how many points to average over: about a twelfth of them, and an odd number."""
    return max(1, len(points) // 12) | 1


def risen_terms(rows: Rows) -> list[str]:
    """Return the reward terms whose smoothed gain at the end of training exceeds `RISE_THRESHOLD`."""
    gains = {term: reward_gain(rows, term) for term in reward_terms(rows)}
    return [term for term, points in gains.items() if smooth(points, smoothing_window(points))[-1][1] > RISE_THRESHOLD]
