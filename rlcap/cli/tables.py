"""Tables for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcap.reward.mix import MixScores


def score_table(found: MixScores) -> str:
    """Component, weight, mean, std, least, most and abstentions, a line each."""
    lines: list[tuple[str, ...]] = [("component", "weight", "mean", "std", "least", "most", "abstained")]
    for name, weight in zip(found.names, found.weights, strict=True):
        scores = found.scores[name]
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
    """Metric, mean and interval, a line each, in reading order."""
    from rlcap.eval.metric_catalog import metric_info, reading_order

    lines = [("metric", "mean", "95 % interval", "meaning")]
    for name in reading_order(set(metrics)):
        say, m = metric_info(name).format, metrics[name]
        lines.append((name, say(m["mean"]), f"{say(m['low'])} to {say(m['high'])}", metric_info(name).label))
    return align(lines)


def summary_table(summary: Mapping[str, Any]) -> str:
    """What changed in a run, by split; the metrics themselves where there is only one evaluation."""
    from rlcap.eval.metric_catalog import metric_info, reading_order

    parts = []
    for change in summary["changes"]:
        lines = [("metric", f"step {change['from']}", f"step {change['to']}", "change", "95 % interval")]
        for name in reading_order(set(change["metrics"])):
            ruler, found = metric_info(name), change["metrics"][name]
            moved = found["difference"]
            span = f"{ruler.format_change(moved['low'])} to {ruler.format_change(moved['high'])}"
            values = (ruler.format(found["before"]), ruler.format(found["after"]), ruler.format_change(moved["mean"]))
            lines.append((name, *values, span))
        parts.append(f"{change['split']}, {change['n']} images\n{align(lines)}")
    if not parts:
        parts = [f"{e['split']}, {e['n']} images\n{metrics_table(e['metrics'])}" for e in summary["evaluations"]]
    return "\n\n".join(parts)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines of text, each column as wide as its widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
