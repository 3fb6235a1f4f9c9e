"""Tables for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcap.reward.mix import MixScores


def score_table(mix_scores: MixScores) -> str:
    """Return a table with one line per reward term: weight, mean, std, minimum, maximum and abstentions."""
    lines: list[tuple[str, ...]] = [("term", "weight", "mean", "std", "min", "max", "abstained")]
    for name, weight in zip(mix_scores.names, mix_scores.weights, strict=True):
        scores = mix_scores.scores[name]
        values = [score.value for score in scores if score.value is not None]
        numbers = ["–"] * 4
        if values:
            mean = sum(values) / len(values)
            std = math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))
            numbers = [f"{number:.3f}" for number in (mean, std, min(values), max(values))]
        reasons = Counter(score.reason for score in scores if score.value is None).most_common(1)
        why = f" ({reasons[0][0]})" if reasons else ""
        lines.append((name, f"{weight:g}", *numbers, f"{len(scores) - len(values)} of {len(scores)}{why}"))
    return align(lines)


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table with one line per metric: mean and 95 % interval.

    Args:
        metrics: Metric → its `mean`, `low` and `high`.
    """
    from rlcap.eval.metric_catalog import metric_info, reading_order

    lines = [("metric", "mean", "95 % interval", "meaning")]
    for name in reading_order(set(metrics)):
        info, values = metric_info(name), metrics[name]
        interval = f"{info.format(values['low'])} to {info.format(values['high'])}"
        lines.append((name, info.format(values["mean"]), interval, info.label))
    return align(lines)


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return tables of the changes in a run, one per split. With a single evaluation, return its metrics.

    Args:
        summary: Contents of summary.json.
    """
    from rlcap.eval.metric_catalog import metric_info, reading_order
    from rlcap.eval.statistics import describe_units

    def head(part: Mapping[str, Any]) -> str:
        return f"{part['split']}: 95 % intervals {describe_units(part['n'], part['clusters'])}"

    parts = []
    for change in summary["changes"]:
        lines = [("metric", f"step {change['from']}", f"step {change['to']}", "change", "95 % interval")]
        for name in reading_order(set(change["metrics"])):
            info, values = metric_info(name), change["metrics"][name]
            difference = values["difference"]
            interval = f"{info.format_change(difference['low'])} to {info.format_change(difference['high'])}"
            before, after = info.format(values["before"]), info.format(values["after"])
            lines.append((name, before, after, info.format_change(difference["mean"]), interval))
        parts.append(f"{head(change)}\n{align(lines)}")
    if not parts:
        parts = [f"{head(e)}\n{metrics_table(e['metrics'])}" for e in summary["evaluations"]]
    return "\n\n".join(parts)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines of text, each column as wide as its widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
