"""What an expert is: a class with one method, from a batch of images to statements.

An expert of your own takes ten lines:

    import numpy as np
    from rlcap.experts.base import Expert, Statement

    class Darkness(Expert):
        def __init__(self, below: float = 60.0) -> None:
            self.below = below

        def describe(self, inputs):
            dark = [np.asarray(one.open()).mean() < self.below for one in inputs]
            return [[Statement("a dark photo", "tag")] if found else [] for found in dark]

A preset names it by its dotted path (`expert: my_experts.py:Darkness`) with parameters of its constructor. Batches, the cache, broken
images and limits are not the expert's business (`rlcap.experts.running`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from rlcap.experts.statement import Statement
from rlcap.io.images import open_image
from rlcap.judge.image_crops import WHOLE_IMAGE, Box, crop_image
from rlcap.types import Sample

__all__ = ["Expert", "ExpertInput", "Statement"]


@dataclass(frozen=True, slots=True)
class ExpertInput:
    """An image, and what is known of it so far."""

    sample: Sample
    """The row: its image is a path."""
    known: tuple[Statement, ...] = ()
    """What the experts before this one said of the image."""

    def open(self) -> Image.Image:
        """Return the image as RGB, upright.

        Raises:
            ImageError: The file can't be opened.
        """
        return open_image(self.sample.image)

    def boxes(self, most: int) -> list[tuple[Box, str]]:
        """Return the boxes that the experts before this one found, with the names of the objects, the surest first.

        Args:
            most: Boxes, at most.
        """
        found = [one for one in self.known if one.kind == "object" and one.box is not None and one.box != WHOLE_IMAGE]
        found.sort(key=lambda one: -(one.score or 0.0))
        return [(one.box, one.text) for one in found[:most] if one.box is not None]


class Expert(ABC):
    """Says something of images.

    A constructor only stores its parameters. Models are loaded at the first image, which a run with a full cache never needs.
    """

    version = "1"
    """Part of the cache key. Raise it when the statements change."""
    reads_row = False
    """Whether the statements depend on the texts or the `meta` of the row, besides the image and the parameters."""
    reads_known = False
    """Whether the statements depend on what the experts before this one said."""

    def files(self) -> Sequence[str]:
        """Return the files and folders whose contents change the statements, such as the folder of a model."""
        return ()

    @abstractmethod
    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return the statements about each of N images, without their source.

        Raises:
            ImageError: An image can't be opened. The caller asks again for each image alone.
        """


def crop(image: Image.Image, box: Box, longest: int = 512) -> Image.Image:
    """Return the part of an image in a box, at most `longest` pixels a side."""
    return crop_image(image, box, longest)
