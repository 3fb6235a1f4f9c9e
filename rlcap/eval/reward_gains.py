"""How far each reward component rose in training, in units of its own: from the rows of `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlcap.eval.report.charts import smooth

RISEN = 0.25
"""From how many standard deviations within a group on a reward counts as risen."""
Rows = Sequence[Mapping[str, Any]]
"""Rows of metrics.jsonl, by step."""
Points = list[tuple[float, float]]
"""(step, value)."""


def metric_series(rows: Rows, name: str) -> Points:
    """The steps that have the metric."""
    found = [(row["step"], row["metrics"].get(name)) for row in rows]
    return [(step, float(value)) for step, value in found if value is not None]


def reward_terms(rows: Rows) -> list[str]:
    """Names of the reward components, in the order in which they were logged."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    return [name.split("/")[1] for name in names if name.startswith("reward/") and name.endswith("/mean")]


def reward_gain(rows: Rows, component: str) -> Points:
    """The component's rise since the start, in units of its usual spread within a group of captions of one image."""
    points = metric_series(rows, f"reward/{component}/mean")
    spread = [value for _, value in metric_series(rows, f"reward/{component}/std_within_group") if value > 0]
    unit = float(np.median(spread)) if spread else float(np.std([value for _, value in points])) or 1.0
    start = float(np.mean([value for _, value in points[: max(1, len(points) // 20)]]))
    return [(step, (value - start) / unit) for step, value in points]


def smoothing_window(points: Sequence[tuple[float, float]]) -> int:
    """Points to average over, an odd number: about a twelfth of them."""
    return max(1, len(points) // 12) | 1


def risen_terms(rows: Rows) -> list[str]:
    """The components that rose by more than `RISEN` over training."""
    gains = {component: reward_gain(rows, component) for component in reward_terms(rows)}
    return [component for component, points in gains.items() if smooth(points, smoothing_window(points))[-1][1] > RISEN]
