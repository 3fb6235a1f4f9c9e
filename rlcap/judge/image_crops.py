"""Views: an image in pieces for a judge that sees, each named in words, so that small things are looked at closely.

    views = Views.of({"windows": 2, "zooms": [2], "most": 6})
    for view in views.of_sample(sample): ...      # four overlapping windows and the middle: view.box, view.name

Two sliding windows a side, the middle at twice the size, and whatever boxes a detector left in the row:

    meta["boxes"]  [{"box": [left, top, right, bottom], "name": "dog"}, [0.1, 0.2, 0.4, 0.9], …]

as shares of the upright image's width and height. Object-centric prompts after "Improving Image Captioning Using LLM
Gradient", whose critic is given sliding-window crops and the classes that a detector found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from rlcap.config.imports import build
from rlcap.errors import ConfigError, CropError
from rlcap.judge.templates import delimit
from rlcap.types import Sample

LEAST = 28
"""Pixels that a view's side has at least, where the image has them: the patch of the smallest eyes in use (Qwen-VL)."""
MOST_WINDOWS = 8
"""Sliding windows a side."""
LONGEST_NAME = 80
"""Characters of a box's or a class's name that are shown."""


class Box(NamedTuple):
    """A part of an image, as shares of its width and height, each in [0, 1]."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class View:
    """A box, and what it is called."""

    box: Box
    name: str
    """Where it lies, and how much larger it shows things than the whole image does."""


def windows(count: int, overlap: float = 0.25) -> list[Box]:
    """count × count windows in reading order; neighbours share `overlap` of a window's side.

    A side s satisfies s + (count − 1) · s · (1 − overlap) = 1: two a side with .25 → s = 4/7; none for 0.
    """
    if not count:
        return []
    side = 1 / (count - (count - 1) * overlap)
    starts = [min(i * side * (1 - overlap), 1 - side) for i in range(count)]
    return [Box(x, y, x + side, y + side) for y, x in itertools.product(starts, starts)]


def middle(times: float) -> Box:
    """The part in the middle that shows things `times` as large: 2 → from a quarter to three quarters."""
    edge = (1 - 1 / times) / 2
    return Box(edge, edge, 1 - edge, 1 - edge)


def place(box: Box) -> str:
    """Where a box's centre lies among the nine thirds of an image: `upper left`, `centre`, `lower edge`, …"""
    column, row = (min(int(3 * (a + b) / 2), 2) for a, b in ((box.left, box.right), (box.top, box.bottom)))
    if column == row == 1:
        return "centre"
    if 1 in (column, row):
        return ("left edge", "", "right edge")[column] or ("upper edge", "", "lower edge")[row]
    return f"{('upper', '', 'lower')[row]} {('left', '', 'right')[column]}"


def times(box: Box) -> float:
    """How much larger a box shows things than the whole image, its longer share as the measure: at least 1."""
    return 1 / max(box.right - box.left, box.bottom - box.top)


def boxes_of(sample: Sample) -> list[tuple[Box, str]]:
    """What stands in `meta["boxes"]`, with names ("" where there is none); [] where there is nothing. CropError."""
    rows = sample.meta.get("boxes")
    if rows is None:
        return []
    if not isinstance(rows, list | tuple):
        raise CropError(f'sample {sample.id!r}: meta["boxes"] must be a list, got {rows!r:.60}')
    return [_box(row, f'sample {sample.id!r}: meta["boxes"][{i}]') for i, row in enumerate(rows)]


def _box(row: Any, where: str) -> tuple[Box, str]:
    given, name = (row.get("box"), row.get("name", "")) if isinstance(row, Mapping) else (row, "")
    sides = [v for v in given if _is_share(v)] if isinstance(given, list | tuple) else []
    if len(sides) != 4 or len(given) != 4 or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise CropError(
            f"{where} is {row!r:.80}; a box is [left, top, right, bottom] as shares of width and height in [0, 1]"
        )
    if not isinstance(name, str):
        raise CropError(f"{where}: the name is a text, got {name!r:.40}")
    return Box(*map(float, sides)), " ".join(name.split())[:LONGEST_NAME]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def detected_text(sample: Sample) -> str:
    """`meta["detected"]`, a list of class names, as fenced lines; "" where nothing was detected. CropError."""
    names = sample.meta.get("detected")
    if names is None:
        return ""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise CropError(f'sample {sample.id!r}: meta["detected"] must be a list of class names, got {names!r:.60}')
    told = list(dict.fromkeys(short for name in names if (short := " ".join(name.split())[:LONGEST_NAME])))
    return delimit("detected", "\n".join(f"- {name}" for name in told)) if told else ""


def crop(image: Image.Image, box: Box, longest: int) -> Image.Image:
    """The part of an image, at most `longest` pixels a side; grown about its centre to `LEAST` where it is smaller."""
    (left, right), (top, bottom) = (
        _pixels(a, b, size) for a, b, size in zip(box[:2], box[2:], image.size, strict=True)
    )
    part = image.crop((left, top, right, bottom))
    part.thumbnail((longest, longest))
    return part


def _pixels(start: float, end: float, size: int) -> tuple[int, int]:
    first, last = math.floor(round(start * size, 6)), min(size, math.ceil(round(end * size, 6)))
    if last - first < LEAST:
        first = max(0, min((first + last - LEAST) // 2, size - LEAST))
        last = min(size, first + LEAST)
    return first, last


@dataclass(frozen=True, slots=True)
class Views:
    """Which views of an image are shown beside the whole."""

    windows: int = 0
    """Sliding windows a side: 2 for four of them, 0 for none, `MOST_WINDOWS` at most."""
    overlap: float = 0.25
    """Share of a window's side that it has in common with its neighbour, in [0, 1)."""
    zooms: Sequence[float] = ()
    """How much larger the middle is shown, each above 1."""
    boxes: bool = True
    """Whether `meta["boxes"]` are shown."""
    most: int = 6
    """So many views at most: boxes first, then zooms, then windows."""
    longest: int = 512
    """Pixels of a view's longer side at most."""

    def __post_init__(self) -> None:
        fine = (
            0 <= self.windows <= MOST_WINDOWS and 0 <= self.overlap < 1 and all(1 < zoom <= 100 for zoom in self.zooms)
        )
        if not fine:
            raise ConfigError(
                f"views: windows from 0 to {MOST_WINDOWS}, overlap in [0, 1), zooms above 1 and up to 100; got {self}"
            )
        if self.most < 1 or self.longest < LEAST:
            raise ConfigError(f"views: most is at least 1, longest at least {LEAST} pixels; got {self}")
        if not (self.windows > 1 or self.zooms or self.boxes):
            raise ConfigError("views: nothing to show; give windows from 2 on, zooms or boxes, or leave views out")

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Views | None:
        """From a configuration's mapping; None for none. ConfigError names an unknown or wrong entry."""
        return None if given is None else build(cls, given, what="views")

    def of_sample(self, sample: Sample) -> list[View]:
        """At most `most` different views, none of them the whole image. CropError where the row's boxes are none."""
        found: dict[Box, str] = {}
        for box, name in boxes_of(sample) if self.boxes else []:
            found.setdefault(box, name)
        for box in [*map(middle, self.zooms), *windows(self.windows, self.overlap)]:
            found.setdefault(box, "")
        parts = [(box, name) for box, name in found.items() if box != WHOLE][: self.most]
        return [View(box, _called(i, len(parts), box, name)) for i, (box, name) in enumerate(parts, 1)]

    def key(self, sample: Sample) -> dict[str, Any]:
        """What a reply depends on through the views, for the cache."""
        return {
            "views": [[*view.box, view.name] for view in self.of_sample(sample)],
            "longest": self.longest,
        }


def _called(number: int, count: int, box: Box, name: str) -> str:
    """A view's name. What a detector called it is data, and stands in a fence."""
    text = f"View {number} of {count} of the same image: {place(box)}, at {times(box):.2g} times."
    return f"{text}\nA detector found there, and may be wrong:\n{delimit('detected', name)}" if name else text
