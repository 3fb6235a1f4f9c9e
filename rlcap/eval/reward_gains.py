"""How far each reward term rises during training, in units of its own spread, from the rows of `metrics.jsonl`.

Every step sees other images, so the mean reward of a step scatters. A rise therefore has a 95 % interval: `rise_interval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcap.eval.report.charts import smooth
from rlcap.eval.statistics import UNDEFINED, Interval, t_quantile

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


def rise_interval(rows: Rows, term: str) -> Interval:
    """Return the smoothed gain of a reward term at the end of training, with its interval over steps.

    The gain is a difference of two means of steps: of the last half window and of the first 5 %. The variance σ² of a
    step is half the mean square of the differences between successive steps, which a trend hardly inflates, with
    2·(n − 1)² / (3·n − 4) degrees of freedom for n steps (von Neumann, Kent, Bellinson and Hart 1941, "The mean square
    successive difference", Annals of Mathematical Statistics 12). The variance of the gain is σ²/m + σ²/k for means of m
    and of k steps. With fewer than three steps the ends of the interval are NaN.
    """
    points = [point for point in reward_gain(rows, term) if np.isfinite(point[1])]
    if not points:
        return UNDEFINED
    n, window = len(points), smoothing_window(points)
    gain = smooth(points, window)[-1][1]
    if n < 3:
        return Interval(gain, UNDEFINED.low, UNDEFINED.high)
    variance = float(np.mean(np.diff([value for _, value in points]) ** 2)) / 2
    df = 2 * (n - 1) ** 2 / (3 * n - 4)
    half = float(t_quantile(df)) * (variance * (1 / (window // 2 + 1) + 1 / max(1, n // 20))) ** 0.5
    return Interval(gain, gain - half, gain + half, df)


def risen_terms(rows: Rows) -> list[str]:
    """Return the reward terms that rose: by more than `RISE_THRESHOLD`, and with an interval that lies above zero."""
    rises = {term: rise_interval(rows, term) for term in reward_terms(rows)}
    return [term for term, rise in rises.items() if rise.mean > RISE_THRESHOLD and rise.low > 0]
