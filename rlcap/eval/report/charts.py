"""Line charts as inline SVG and HTML, without scripts. They stretch to any width while their text keeps its size.

The SVG contains only lines and bands, in a square of 1000 units that the page stretches. The ticks are HTML beside it.
Lines differ by colour (Okabe and Ito's palette, which is safe for colour-blind readers and set in the style sheet)
*and* by dash pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

SIDE = 1000
"""Side of the drawing in SVG units."""
DASHES = ("", "7 4", "2 4", "10 4 2 4", "14 5", "4 2")
"""Dash pattern of each line style."""
STYLES = len(DASHES)
"""The number of line styles."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of a chart."""

    label: str
    """The label in the legend; "" where the title of the chart is enough."""
    points: Sequence[tuple[float, float]]
    """Pairs (step, value) in ascending order; values that are not finite interrupt the line."""
    band: Sequence[tuple[float, float, float]] = ()
    """Triples (step, low, high) of an interval around the line."""
    note: str = ""
    """Text after the label in the legend, such as `41 % → 63 %`."""
    faint: Sequence[tuple[float, float]] = ()
    """Raw points (step, value), drawn faintly behind a smoothed line."""
    dots: bool = False
    """Whether to mark each point with a dot."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is ready for a page."""

    title: str
    """The title above the chart."""
    plot: Markup
    """The drawing with its ticks, as HTML."""
    legend: list[tuple[int, str, str]] = field(default_factory=list)
    """(style, label, note) of each line that has a label or a note."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_range: tuple[float, float],
    *,
    show: Callable[[float], str] = lambda value: f"{value:g}",
    floor: float | None = None,
    rules: Sequence[tuple[float, str]] = (),
) -> Chart | None:
    """Draw a chart of lines over steps.

    Args:
        title: The title above the chart.
        lines: The lines, which get styles in their order.
        x_range: The first and the last step, which charts above each other share.
        show: Formats the value of a tick on the y axis.
        floor: A value that the y axis must include.
        rules: (step, label) of vertical rules.

    Returns:
        The chart, or None where no line has a finite point.
    """
    values = [v for line in lines for _, v in line.points] + [
        v for line in lines for _, *ends in line.band for v in ends
    ]
    values = [v for v in values if math.isfinite(v)] + ([] if floor is None else [floor])
    if not any(math.isfinite(v) for line in lines for _, v in line.points):
        return None
    ticks = nice_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    left, right = x_range if x_range[1] > x_range[0] else (x_range[0] - 1, x_range[0] + 1)

    def at(x: float, y: float) -> str:
        y = min(max(y, low), high)  # clip at the edge: the raw points behind a smoothed line may lie outside
        return f"{SIDE * (x - left) / (right - left):.1f},{SIDE * (high - y) / (high - low):.1f}"

    parts = [f'<line class="grid" x1="0" x2="{SIDE}" y1="{y}" y2="{y}"/>' for y in (_y(t, low, high) for t in ticks)]
    parts += [
        f'<line class="rule" x1="{x}" x2="{x}" y1="0" y2="{SIDE}"/>'
        for x in (f"{SIDE * (step - left) / (right - left):.1f}" for step, _ in rules)
    ]
    for i, line in enumerate(lines):
        style = i % STYLES
        if line.band:
            outline = [at(x, hi) for x, _, hi in line.band] + [at(x, lo) for x, lo, _ in reversed(line.band)]
            parts.append(f'<polygon class="band s{style}" points="{" ".join(outline)}"/>')
        if line.faint:
            parts.append(f'<path class="faint s{style}" d="{_path(line.faint, at)}"/>')
        dashes = f' stroke-dasharray="{DASHES[style]}"' if DASHES[style] else ""
        parts.append(f'<path class="line s{style}" d="{_path(line.points, at)}"{dashes}/>')
        if line.dots or len(line.points) == 1:
            # a line of zero length with round ends remains a disc when the page stretches the drawing
            dots = " ".join(f"M{at(x, y)}h0" for x, y in line.points if math.isfinite(y))
            parts.append(f'<path class="dot s{style}" d="{dots}"/>')
    description = "; ".join(f"{line.label} {line.note}".strip() for line in lines)
    svg = (
        f'<svg viewBox="0 0 {SIDE} {SIDE}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}: {escape(description)}">'
        f"{''.join(parts)}</svg>"
    )
    marks = "".join(
        f'<span class="y" style="top:{_y(tick, low, high) / 10:.1f}%">{escape(show(tick))}</span>' for tick in ticks
    )
    marks += "".join(
        f'<span class="x" style="left:{100 * (tick - left) / (right - left):.1f}%">{tick:g}</span>'
        for tick in nice_ticks(left, right, whole=True)
        if left <= tick <= right
    )
    marks += "".join(
        f'<span class="rulelabel" style="left:{100 * (step - left) / (right - left):.1f}%">{escape(label)}</span>'
        for step, label in rules
    )
    legend = [(i % STYLES, line.label, line.note) for i, line in enumerate(lines) if line.label or line.note]
    return Chart(title, Markup(f'<div class="plot">{svg}{marks}</div>'), legend)


def swatch(style: int) -> Markup:
    """Return the short line that shows a style in a legend."""
    dashes = f' stroke-dasharray="{DASHES[style]}"' if DASHES[style] else ""
    return Markup(
        f'<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true"><path class="line s{style}" d="M0,4H28"{dashes}/></svg>'
    )


def smooth(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Return the centred moving average over `window` points, fewer at the ends, without values that are not finite."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    half = window // 2
    result = []
    for i, (x, _) in enumerate(finite):
        near = [y for _, y in finite[max(0, i - half) : i + half + 1]]
        result.append((x, sum(near) / len(near)))
    return result


def nice_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return three to seven round values, which cover the range from `low` to `high`.

    Neighbours differ by 1, 2 or 5 times a power of ten, and by at least 1 if `whole`.
    """
    if high <= low:
        pad = abs(low) * 0.1 or (1.0 if whole else 0.05)
        low, high = low - pad, high + pad
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.8)
    step = max(1.0, step) if whole else step
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _y(value: float, low: float, high: float) -> float:
    return round(SIDE * (high - value) / (high - low), 1)


def _path(points: Sequence[tuple[float, float]], at: Callable[[float, float], str]) -> str:
    path, pen = [], "M"
    for x, y in points:
        if math.isfinite(y):
            path.append(f"{pen}{at(x, y)}")
            pen = "L"
        else:
            pen = "M"
    return "".join(path)
