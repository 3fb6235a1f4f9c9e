"""The colour namer: the main colours of each box that a detector found, without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from rlcap.experts.base import Expert, ExpertInput, Statement, crop
from rlcap.experts.colour_names import name_colours
from rlcap.judge.image_crops import Box

SIDE = 48
"""A box is reduced to this many pixels a side before its colours are named."""
MARGIN = 0.2
"""Share of a box's width and height that is left out on each side, where the background is."""


class Colours(Expert):
    """Names the colours of the middle of each box: `red bus`, or `red and white bus` where two colours are frequent.

    Args:
        boxes: Boxes of an image, at most, the surest first.
        share: The share of a box's pixels, in (0, 1], that a colour needs to be named.
        most: Colours of a box, at most.
    """

    reads_known = True

    def __init__(self, boxes: int = 8, share: float = 0.35, most: int = 2) -> None:
        self.boxes, self.share, self.most = boxes, share, most

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return a statement for each box with a frequent colour; the score is the share of the pixels that have a named colour."""
        return [self._describe(one) for one in inputs]

    def _describe(self, one: ExpertInput) -> list[Statement]:
        boxes = one.boxes(self.boxes)
        image = one.open() if boxes else None
        statements = []
        for box, name in boxes:
            assert image is not None  # it was opened because there are boxes
            found = [(colour, share) for colour, share in _colours(image, box) if share >= self.share][: self.most]
            if found:
                colours = " and ".join(colour for colour, _ in found)
                text = f"{colours} {name}"
                statements.append(Statement(text, "attribute", score=sum(share for _, share in found), box=box))
        return statements


def _colours(image: Image.Image, box: Box) -> list[tuple[str, float]]:
    """Return the colours of the middle of a box with their shares, the largest first."""
    dx, dy = MARGIN * (box.right - box.left), MARGIN * (box.bottom - box.top)
    middle = Box(box.left + dx, box.top + dy, box.right - dx, box.bottom - dy)
    small = crop(image, middle).resize((SIDE, SIDE), Image.Resampling.BOX)
    return name_colours(np.asarray(small, dtype=np.float64).reshape(-1, 3))
