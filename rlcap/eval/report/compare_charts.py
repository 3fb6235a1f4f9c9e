"""The charts of a comparison: distinctive against faithful, held-out metrics over the steps, and lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.compare import Comparison
from rlcap.eval.goals import Goal, undominated
from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.report.charts import Chart, Line, line_chart
from rlcap.eval.report.scatter import Point, scatter_chart
from rlcap.eval.statistics import mean_across_seeds
from rlcap.scorers.text.ngrams import tokenize

MOST_BINS = 24
"""Bins of the chart of lengths, at most."""

Tables = Sequence[Sequence[dict[int, Table]]]
"""For each variant, for each of its runs: evaluated step → captions of the split."""


def read_variants(variants: Sequence[Sequence[str | Path]], split: str) -> Tables:
    """Return the captions of a split at all evaluated steps of all runs."""
    return [
        [
            {step: tables[split] for step in evaluated_steps(run) if split in (tables := read_tables(run, step))}
            for run in runs
        ]
        for runs in variants
    ]


def trade_off_chart(comparison: Comparison) -> Chart | None:
    """Return the chart of the first two goals, with points as large as the third; None where fewer than two are measured."""
    if len(comparison.goals) < 2:
        return None
    distinctive, faithful, *rest = comparison.goals
    infos = [metric_info(goal.metric) for goal in comparison.goals]

    def note(i: int) -> str:
        return ", ".join(info.format(goal.values[i].mean) for info, goal in zip(infos, comparison.goals, strict=True))

    points = [
        Point(name, faithful.values[i], distinctive.values[i], _signed(rest[0], i) if rest else math.nan, note(i))
        for i, name in enumerate(comparison.names)
    ]
    size = f". Larger points are better in “{infos[2].label}”" if rest else ""
    return scatter_chart(
        f"{infos[0].label} against {infos[1].label.lower()}{size}",
        points,
        x_label=f"{infos[1].label} ({'less' if infos[1].better < 0 else 'more'} is better)",
        y_label=infos[0].label,
        show=lambda value: (
            f"{100 * value:.0f}\N{NO-BREAK SPACE}%" if infos[0].unit == infos[1].unit == "share" else f"{value:g}"
        ),
        frontier=undominated(comparison.goals),
    )


def step_charts(comparison: Comparison, tables: Tables) -> list[Chart]:
    """Return for each goal the chart of its metric over the evaluated steps, with a line for each variant."""
    steps = sorted({step for runs in tables for own in runs for step in own})
    charts = []
    for goal in comparison.goals if len(steps) > 1 else ():
        info = metric_info(goal.metric)
        lines = []
        for name, runs in zip(comparison.names, tables, strict=True):
            points = []
            for step in sorted(set.intersection(*(set(own) for own in runs))):
                seeds = [own[step].metrics[goal.metric] for own in runs if goal.metric in own[step].metrics]
                if len(seeds) == len(runs) and len({len(values) for values in seeds}) == 1:
                    points.append((step, mean_across_seeds(seeds).mean))
            note = f"{info.format(points[0][1])} → {info.format(points[-1][1])}" if points else ""
            lines.append(Line(name, [(float(step), value) for step, value in points], note=note, dots=True))
        charts.append(line_chart(info.label, lines, (steps[0], steps[-1]), show=info.format))
    return [chart for chart in charts if chart]


def length_chart(comparison: Comparison, tables: Tables) -> Chart | None:
    """Return the chart of the share of captions by their number of words, at the last step of each variant."""
    lengths = [
        [len(tokenize(caption)) for own in runs for caption in own[max(own)].captions] if all(runs) else []
        for runs in tables
    ]
    longest = max((length for own in lengths for length in own), default=0)
    if not longest:
        return None
    width = max(1, -(-(longest + 1) // MOST_BINS))
    edges = np.arange(0, longest + width + 1, width)
    lines = []
    for name, own in zip(comparison.names, lengths, strict=True):
        counts, _ = np.histogram(own, edges)
        points = [
            (float(left + width / 2), float(count / max(len(own), 1)))
            for left, count in zip(edges, counts, strict=False)
        ]
        lines.append(Line(name, points, note=f"{np.mean(own):.0f} words" if own else ""))
    return line_chart(
        f"Length of captions, share in each {width} words",
        lines,
        (0, float(edges[-1])),
        show=lambda value: f"{100 * value:.0f} %",
        floor=0,
    )


def _signed(goal: Goal, variant: int) -> float:
    return metric_info(goal.metric).better * goal.values[variant].mean
