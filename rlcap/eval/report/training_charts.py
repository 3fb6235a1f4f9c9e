"""The report's charts over training: the rewards, and below them the held-out metrics."""

from __future__ import annotations

import math
from collections import Counter

from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.report.charts import Chart, Line, line_chart, smooth
from rlcap.eval.reward_gains import metric_series, reward_gain, reward_terms, smoothing_window
from rlcap.eval.run_files import RunFiles

HELD_OUT = ("bag5_recall_at_1", "fact_recall", "hallucination_rate", "nli_contradiction", "nli_entailment")
"""Metrics in the chart of held-out metrics, where the run has them."""


def _x_range(files: RunFiles) -> tuple[float, float]:
    return 0, max([files.summary["steps"], *(row["step"] for row in files.metrics), 1])


def reward_chart(files: RunFiles) -> Chart | None:
    """Return the chart of every reward term on one scale, with rules where the bags grew; None without rewards."""
    lines = []
    for term in reward_terms(files.metrics):
        raw, rise = metric_series(files.metrics, f"reward/{term}/mean"), reward_gain(files.metrics, term)
        ends = smooth(raw, smoothing_window(raw))
        lines.append(
            Line(
                term,
                smooth(rise, smoothing_window(rise)),
                note=f"{ends[0][1]:.3g} → {ends[-1][1]:.3g}".replace("-", "−"),
                faint=rise,
            )
        )
    bags = metric_series(files.metrics, "stage/bag_size")
    sizes = [(step, size) for (step, size), (_, old) in zip(bags[1:], bags, strict=False) if size != old]
    # The first label says what the numbers of the others are: all in full would overlap.
    grown = [(step, f"bags of {size:g}" if i == 0 else f"{size:g}") for i, (step, size) in enumerate(sizes)]
    title = "Rewards in training: rise since the start, in standard deviations within a group"
    return line_chart(title, lines, _x_range(files), show=_signed, floor=0, rules=grown)


def _main_split(files: RunFiles) -> str:
    """Return the split that was evaluated most often."""
    return Counter(e["split"] for e in files.summary["evaluations"]).most_common(1)[0][0]


def _held_out_line(files: RunFiles, split: str, name: str) -> Line | None:
    """Return the line of a metric with its intervals; None where the split does not have the metric."""
    intervals = [
        (e["step"], e["metrics"][name])
        for e in files.summary["evaluations"]
        if e["split"] == split and name in e["metrics"]
    ]
    if not intervals:
        return None
    info = metric_info(name)
    band = [(step, value["low"], value["high"]) for step, value in intervals]
    return Line(
        info.label,
        [(step, value["mean"]) for step, value in intervals],
        band=band if len(intervals) > 1 and all(math.isfinite(low) for _, low, _ in band) else (),
        note=f"{info.format(intervals[0][1]['mean'])} → {info.format(intervals[-1][1]['mean'])}",
        dots=True,
    )


def held_out_chart(files: RunFiles) -> Chart | None:
    """Return the chart of held-out metrics with their intervals, over the same steps as `reward_chart`.

    It shows the split that was evaluated most often.
    """
    split = _main_split(files)
    lines = [line for name in HELD_OUT if (line := _held_out_line(files, split, name))]
    return line_chart(
        f"Held-out images ({split}), by metrics that no reward uses", lines, _x_range(files), show=_percent, floor=0
    )


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def other_charts(files: RunFiles) -> list[Chart]:
    """Return the charts of length, CIDEr-D, adapted weights, abstentions and the health of the training for which the run has values."""
    split = _main_split(files)
    words = metric_series(files.metrics, "completions/mean_words")
    length = [Line("sampled in training", smooth(words, smoothing_window(words)), faint=words)] if words else []
    if held := _held_out_line(files, split, "mean_words"):
        length.append(Line("greedy, held out", held.points, held.band, held.note, dots=True))
    abstain_rates = {
        term: metric_series(files.metrics, f"reward/{term}/abstain_rate") for term in reward_terms(files.metrics)
    }
    abstained = [
        Line(term, smooth(points, smoothing_window(points)))
        for term, points in abstain_rates.items()
        if any(value for _, value in points)
    ]
    charts = [line_chart("Length in words", length, _x_range(files))]
    if cider := _held_out_line(files, split, "cider_d"):
        charts.append(line_chart("CIDEr-D", [cider], _x_range(files)))
    multipliers = {
        term: metric_series(files.metrics, f"reward/{term}/multiplier") for term in reward_terms(files.metrics)
    }
    adapted = [
        Line(term, points, note=f"{points[0][1]:.3g} → {points[-1][1]:.3g}")
        for term, points in multipliers.items()
        if points
    ]
    charts.append(line_chart("Weights of terms with a target", adapted, _x_range(files), floor=0))
    charts.append(line_chart("Abstentions, share of captions", abstained, _x_range(files), show=_percent, floor=0))
    for name, title in (
        ("zero_variance_groups", "Groups without any difference in reward"),
        ("kl", "KL divergence from the reference"),
        ("grad_norm", "Gradient norm"),
    ):
        points = metric_series(files.metrics, name)
        charts.append(
            line_chart(
                title, [Line("", smooth(points, smoothing_window(points)), faint=points)], _x_range(files), floor=0
            )
        )
    return [chart for chart in charts if chart]
