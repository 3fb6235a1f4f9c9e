"""A chart of points with intervals in both directions, as inline SVG and HTML like the line charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from rlcap.eval.report.charts import COLOURS, SIDE, Chart, nice_ticks
from rlcap.eval.statistics import Interval

SIZES = (7.0, 19.0)
"""Diameters of the points with the smallest and the largest size, in pixels."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point with intervals."""

    label: str
    x: Interval
    y: Interval
    size: float = math.nan
    """The quantity that the area shows; NaN gives the smallest point."""
    note: str = ""
    """Text after the label in the legend."""


def scatter_chart(
    title: str,
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    show: Callable[[float], str],
    frontier: Sequence[int] = (),
) -> Chart | None:
    """Draw points, and a line through those of the frontier.

    Args:
        title: The title above the chart.
        points: The points, which get colours in their order.
        x_label: What the x axis shows.
        y_label: What the y axis shows.
        show: Formats the value of a tick.
        frontier: Indices of the points that a line connects, from left to right.

    Returns:
        The chart, or None where no point has finite coordinates.
    """
    finite = [i for i, point in enumerate(points) if math.isfinite(point.x.mean) and math.isfinite(point.y.mean)]
    if not finite:
        return None
    ticks = [_ticks([getattr(points[i], axis) for i in finite]) for axis in ("x", "y")]
    (left, right), (low, high) = ((own[0], own[-1]) for own in ticks)

    def at(x: float, y: float) -> str:
        return f"{SIDE * (x - left) / (right - left):.1f},{SIDE * (high - y) / (high - low):.1f}"

    parts = []
    for tick in ticks[1]:
        parts.append(f'<path class="grid" d="M{at(left, tick)}L{at(right, tick)}"/>')
    for tick in ticks[0]:
        parts.append(f'<path class="grid" d="M{at(tick, low)}L{at(tick, high)}"/>')
    line = sorted((points[i].x.mean, points[i].y.mean) for i in frontier if i in finite)
    if len(line) > 1:
        parts.append(f'<path class="rule" d="M{"L".join(at(x, y) for x, y in line)}"/>')
    areas = _diameters([points[i].size for i in finite])
    for i, diameter in zip(finite, areas, strict=True):
        x, y, colour = points[i].x, points[i].y, i % COLOURS
        if math.isfinite(x.low) and math.isfinite(y.low):
            cross = f"M{at(x.low, y.mean)}L{at(x.high, y.mean)}M{at(x.mean, y.low)}L{at(x.mean, y.high)}"
            parts.append(f'<path class="cross s{colour}" d="{cross}"/>')
        parts.append(f'<path class="dot s{colour}" style="stroke-width:{diameter:.1f}px" d="M{at(x.mean, y.mean)}h0"/>')
    described = "; ".join(f"{points[i].label}: {show(points[i].x.mean)}, {show(points[i].y.mean)}" for i in finite)
    svg = (
        f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}; {escape(x_label)} and {escape(y_label)} of {escape(described)}">{"".join(parts)}</svg>'
    )
    marks = "".join(
        f'<span class="y" style="top:{100 * (high - tick) / (high - low):.1f}%">{escape(show(tick))}</span>'
        for tick in ticks[1]
    )
    marks += "".join(
        f'<span class="x" style="left:{100 * (tick - left) / (right - left):.1f}%">{escape(show(tick))}</span>'
        for tick in ticks[0]
    )
    marks += "".join(
        f'<span class="point" style="left:{100 * (points[i].x.mean - left) / (right - left):.1f}%;'
        f'top:{100 * (high - points[i].y.mean) / (high - low):.1f}%">{escape(points[i].label)}</span>'
        for i in finite
    )
    legend = [(i, points[i].label, points[i].note) for i in finite]
    axes = Markup('<p class="axis">→ {}, ↑ {}</p>').format(x_label, y_label)
    return Chart(title, Markup(f'<div class="plot scatter">{svg}{marks}</div>') + axes, legend)


def _ticks(intervals: Sequence[Interval]) -> list[float]:
    values = [value for interval in intervals for value in interval[:3] if math.isfinite(value)]
    return nice_ticks(min(values), max(values))


def _diameters(sizes: Sequence[float]) -> list[float]:
    """Return the diameters of points, so that their areas are linear in their sizes between the smallest and the largest."""
    known = [size for size in sizes if math.isfinite(size)]
    if not known or max(known) == min(known):
        return [SIZES[0] + 3] * len(sizes)
    smallest, largest = (diameter**2 for diameter in SIZES)
    shares = [(size - min(known)) / (max(known) - min(known)) if math.isfinite(size) else 0.0 for size in sizes]
    return [math.sqrt(smallest + share * (largest - smallest)) for share in shares]
