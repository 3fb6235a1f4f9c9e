"""Image crops for a judge that sees, each named in words, so that it looks closely at small things.

    crops = ImageCrops(windows=2, zooms=[2], most=6)
    for crop in crops.of_sample(sample): ...      # four overlapping windows and the middle: crop.box, crop.name

There are sliding windows, the middle of the image enlarged, and whatever boxes a detector left in the row:

    meta["boxes"]  [{"box": [left, top, right, bottom], "name": "dog"}, [0.1, 0.2, 0.4, 0.9], …]

as shares of the upright image's width and height. The prompts follow "Improving Image Captioning Using LLM Gradient", whose critic is
given crops of a sliding window and the classes that a detector found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from PIL import Image
from pydantic import Field, model_validator

from rlcap.config.section import Section
from rlcap.errors import CropError
from rlcap.judge.templates import delimit
from rlcap.types import Sample

MIN_SIDE = 28
"""Least side of a crop in pixels, where the image has them: the patch of the vision encoders with the largest patches (Qwen-VL)."""
MAX_WINDOWS = 8
"""Most sliding windows a side."""
MAX_NAME_LENGTH = 80
"""Characters of a box's or a class's name that are shown."""


class Box(NamedTuple):
    """A part of an image, as shares of its width and height, each in [0, 1]."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE_IMAGE = Box(0.0, 0.0, 1.0, 1.0)


class ImageCrop(NamedTuple):
    """A box with its name."""

    box: Box
    name: str
    """Says where the box lies, and how much larger it shows things than the whole image does."""


class ImageCrops(Section):
    """Which crops of an image a judge is shown beside the whole image."""

    windows: Annotated[int, Field(ge=0, le=MAX_WINDOWS)] = 0
    """Sliding windows a side: 2 makes four of them, 0 none."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of a window's side that it has in common with its neighbour, in [0, 1)."""
    zooms: list[Annotated[float, Field(gt=1, le=100)]] = Field(default_factory=list)
    """How much larger the middle of the image is shown, each above 1."""
    boxes: bool = True
    """Whether the boxes in `meta["boxes"]` are shown."""
    most: Annotated[int, Field(ge=1)] = 6
    """Most crops of an image. Boxes come first, then zooms, then windows."""
    longest: Annotated[int, Field(ge=MIN_SIDE)] = 512
    """Longest side of a crop in pixels."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> ImageCrops:
        if not (self.windows > 1 or self.zooms or self.boxes):
            raise ValueError("nothing to show; give windows from 2 on, zooms or boxes, or leave crops out")
        return self

    def of_sample(self, sample: Sample) -> list[ImageCrop]:
        """Return at most `most` different crops, none of them the whole image.

        Raises:
            CropError: where the row's boxes can't be used.
        """
        names: dict[Box, str] = {}
        for box, name in boxes_of(sample) if self.boxes else []:
            names.setdefault(box, name)
        for box in [*map(middle_box, self.zooms), *window_boxes(self.windows, self.overlap)]:
            names.setdefault(box, "")
        shown = [(box, name) for box, name in names.items() if box != WHOLE_IMAGE][: self.most]
        return [ImageCrop(box, _crop_name(i, len(shown), box, name)) for i, (box, name) in enumerate(shown, 1)]

    def cache_key(self, sample: Sample) -> dict[str, Any]:
        """Return what a reply depends on through the crops."""
        return {"views": [[*crop.box, crop.name] for crop in self.of_sample(sample)], "longest": self.longest}


def window_boxes(count: int, overlap: float = 0.25) -> list[Box]:
    """Return count × count windows in reading order, whose neighbours share `overlap` of a window's side.

    A side s satisfies s + (count − 1) · s · (1 − overlap) = 1: two a side with .25 give s = 4/7.
    """
    if not count:
        return []
    side = 1 / (count - (count - 1) * overlap)
    starts = [min(i * side * (1 - overlap), 1 - side) for i in range(count)]
    return [Box(x, y, x + side, y + side) for y, x in itertools.product(starts, starts)]


def middle_box(zoom: float) -> Box:
    """Return the middle part that shows things `zoom` times as large: 2 gives a quarter to three quarters."""
    edge = (1 - 1 / zoom) / 2
    return Box(edge, edge, 1 - edge, 1 - edge)


def position_of(box: Box) -> str:
    """Return where a box's centre lies among the nine thirds of an image: `upper left`, `centre`, `lower edge` and so on."""
    column, row = (min(int(3 * (a + b) / 2), 2) for a, b in ((box.left, box.right), (box.top, box.bottom)))
    if column == row == 1:
        return "centre"
    if 1 in (column, row):
        return ("left edge", "", "right edge")[column] or ("upper edge", "", "lower edge")[row]
    return f"{('upper', '', 'lower')[row]} {('left', '', 'right')[column]}"


def zoom_of(box: Box) -> float:
    """Return how much larger a box shows things than the whole image, measured by its longer share: at least 1."""
    return 1 / max(box.right - box.left, box.bottom - box.top)


def boxes_of(sample: Sample) -> list[tuple[Box, str]]:
    """Return the boxes in `meta["boxes"]` with their names, "" for a box without one.

    Raises:
        CropError: where an entry is no box.
    """
    rows = sample.meta.get("boxes")
    if rows is None:
        return []
    if not isinstance(rows, list | tuple):
        raise CropError(f'sample {sample.id!r}: meta["boxes"] must be a list, got {rows!r:.60}')
    return [_read_box(row, f'sample {sample.id!r}: meta["boxes"][{i}]') for i, row in enumerate(rows)]


def detected_text(sample: Sample) -> str:
    """Return the class names in `meta["detected"]` as delimited lines, or "" where nothing was detected.

    Raises:
        CropError: where they are no list of texts.
    """
    names = sample.meta.get("detected")
    if names is None:
        return ""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise CropError(f'sample {sample.id!r}: meta["detected"] must be a list of class names, got {names!r:.60}')
    unique = list(dict.fromkeys(short for name in names if (short := " ".join(name.split())[:MAX_NAME_LENGTH])))
    return delimit("detected", "\n".join(f"- {name}" for name in unique)) if unique else ""


def crop_image(image: Image.Image, box: Box, longest: int) -> Image.Image:
    """Cut a box out of an image, reduced to `longest` pixels a side at most.

    A box smaller than `MIN_SIDE` pixels is grown about its centre first, as far as the image allows.
    """
    (left, right), (top, bottom) = (
        _pixels(a, b, size) for a, b, size in zip(box[:2], box[2:], image.size, strict=True)
    )
    part = image.crop((left, top, right, bottom))
    part.thumbnail((longest, longest))
    return part


def _read_box(row: Any, where: str) -> tuple[Box, str]:
    given, name = (row.get("box"), row.get("name", "")) if isinstance(row, Mapping) else (row, "")
    values = list(given) if isinstance(given, list | tuple) else []
    sides = [v for v in values if _is_share(v)]
    if len(sides) != 4 or len(values) != 4 or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise CropError(
            f"{where} is {row!r:.80}; a box is [left, top, right, bottom] as shares of width and height in [0, 1]"
        )
    if not isinstance(name, str):
        raise CropError(f"{where}: the name is a text, got {name!r:.40}")
    return Box(*map(float, sides)), " ".join(name.split())[:MAX_NAME_LENGTH]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _pixels(start: float, end: float, size: int) -> tuple[int, int]:
    first, last = math.floor(round(start * size, 6)), min(size, math.ceil(round(end * size, 6)))
    if last - first < MIN_SIDE:
        first = max(0, min((first + last - MIN_SIDE) // 2, size - MIN_SIDE))
        last = min(size, first + MIN_SIDE)
    return first, last


def _crop_name(number: int, count: int, box: Box, name: str) -> str:
    """Return the words that introduce a crop. What a detector called it is data, and is delimited."""
    text = f"View {number} of {count} of the same image: {position_of(box)}, at {zoom_of(box):.2g} times."
    return f"{text}\nA detector found there, and may be wrong:\n{delimit('detected', name)}" if name else text
