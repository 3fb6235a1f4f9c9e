"""Line charts as inline SVG and HTML, without scripts. They stretch to any width while their text keeps its size.

The SVG contains only lines and bands, in a square of 1000 units that the page stretches. The ticks are HTML beside it.
Lines differ by colour (after Okabe and Ito's palette, which is safe for colour-blind readers and set in the style sheet)
*and* by dash pattern. The patterns shift against the colours, so that 64 lines have 64 styles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

SIDE = 1000
"""Side of the drawing in SVG units."""
DASHES = ("", "7 4", "2 4", "10 4 2 4", "17 5", "4 2", "11 3 2 3 2 3", "16 3 5 3")
"""The dash patterns."""
COLOURS = 8
"""The number of colours, which are the classes `s0`, `s1`, … of the style sheet."""
LABEL_ROWS = 3
"""Rows in which the labels of vertical rules stand above each other, at most."""
CHARACTER = 2.6
"""Width of a character of a label in percent of the narrowest plot, which is that of a phone."""


@dataclass(frozen=True, slots=True)
class Style:
    """The look of a line."""

    colour: int
    """Number of the colour class."""
    dashes: str
    """SVG's `stroke-dasharray`; "" for a solid line."""

    @property
    def attributes(self) -> str:
        """The attribute of an SVG path, with a leading space."""
        return f' stroke-dasharray="{self.dashes}"' if self.dashes else ""


def line_style(number: int) -> Style:
    """Return the style of the line at an index. The first 64 differ."""
    return Style(number % COLOURS, DASHES[(number + number // COLOURS) % len(DASHES)])


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
    """(index of the line, label, note) of each line that has a label or a note."""


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_range: tuple[float, float],
    *,
    show: Callable[[float], str] = lambda value: f"{value:g}".replace("-", "−"),
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
    if floor is not None and max(values) == min(values) == floor:
        values.append(floor + 0.1)  # a line at the floor, such as a share that is always 0, needs no room below it
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
        style = line_style(i)
        if line.band:
            outline = [at(x, hi) for x, _, hi in line.band] + [at(x, lo) for x, lo, _ in reversed(line.band)]
            parts.append(f'<polygon class="band s{style.colour}" points="{" ".join(outline)}"/>')
        if line.faint:
            parts.append(f'<path class="faint s{style.colour}" d="{_path(line.faint, at)}"/>')
        parts.append(f'<path class="line s{style.colour}" d="{_path(line.points, at)}"{style.attributes}/>')
        if line.dots or len(line.points) == 1:
            # a line of zero length with round ends remains a disc when the page stretches the drawing
            dots = " ".join(f"M{at(x, y)}h0" for x, y in line.points if math.isfinite(y))
            parts.append(f'<path class="dot s{style.colour}" d="{dots}"/>')
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
    places = [(100 * (step - left) / (right - left), label) for step, label in rules]
    rows = place_labels(places)
    marks += "".join(
        f'<span class="rulelabel" style="left:{place:.1f}%;bottom:calc(100% + {1.3 * row:.1f}em)">{escape(label)}</span>'
        for (place, label), row in zip(places, rows, strict=True)
        if row is not None
    )
    legend = [(i, line.label, line.note) for i, line in enumerate(lines) if line.label or line.note]
    head = max((row for row in rows if row is not None), default=0)
    room = f' style="margin-top:{1 + head:.1f}rem"' if head else ""
    return Chart(title, Markup(f'<div class="plot"{room}>{svg}{marks}</div>'), legend)


def place_labels(labels: Sequence[tuple[float, str]]) -> list[int | None]:
    """Return the row of each label, so that no two labels of a row overlap on a phone; None for a label without room.

    Args:
        labels: (centre in percent of the width, text), from left to right.
    """
    ends: list[float] = []
    rows: list[int | None] = []
    for centre, text in labels:
        half = CHARACTER * len(text) / 2
        row = next((row for row, end in enumerate(ends) if end <= centre - half), len(ends))
        if row == LABEL_ROWS:
            rows.append(None)
            continue
        ends[row : row + 1] = [centre + half]
        rows.append(row)
    return rows


def swatch(number: int) -> Markup:
    """Return the short line that shows the style of a line in a legend."""
    style = line_style(number)
    return Markup(
        '<svg class="swatch" viewBox="0 0 40 8" aria-hidden="true">'
        f'<path class="line s{style.colour}" d="M0,4H40"{style.attributes}/></svg>'
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
