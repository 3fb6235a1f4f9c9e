"""Tables for the terminal."""

from __future__ import annotations

import csv
import io
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


def latex_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Return a LaTeX table (booktabs) with one line per metric: mean and 95 % interval.

    Args:
        metrics: Metric → its `mean`, `low` and `high`.
    """
    from rlcap.eval.metric_catalog import metric_info, reading_order

    lines = [r"\begin{tabular}{lrr}", r"\toprule", r"metric & mean & 95\,\% interval \\", r"\midrule"]
    for name in reading_order(set(metrics)):
        info, values = metric_info(name), metrics[name]
        mean, low, high = (_to_latex(info.format(values[key])) for key in ("mean", "low", "high"))
        lines.append(rf"{_to_latex(info.label)} & {mean} & [{low}, {high}] \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "\N{NO-BREAK SPACE}": r"\,", "–": "--"}  # fmt: skip
"""Characters that LaTeX reads otherwise."""


def _to_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of sample_id, image, caption and metrics as CSV, an empty cell where a metric does not apply.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["sample_id", "image", "caption", *names])
    for row in rows:
        texts = [_without_formula(str(row[key])) for key in ("sample_id", "image", "caption")]
        writer.writerow([*texts, *(row["metrics"].get(name) for name in names)])
    return out.getvalue()


def _without_formula(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


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
