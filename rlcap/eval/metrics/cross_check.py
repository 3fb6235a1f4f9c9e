"""CrossCheck: do other captions of the same image mention what a caption mentions? Without references and without images.

Captioners that were trained apart invent different things, and see the same. An object that one caption mentions and no other
caption of the image does is probably not there. The same holds across samples of one captioner, less clearly, because they share
their habits (SelfCheckGPT: Manakul et al., EMNLP 2023, arXiv 2303.08896, applies this idea to facts in text).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


class ObjectFinder(Protocol):
    """Finds the objects that a text mentions; `rlcap.scorers.objects.vocabulary.Vocabulary` implements it."""

    def mentions(self, text: str) -> list[str]:
        """Return the labels of the mentioned objects."""


@dataclass(frozen=True, slots=True)
class CheckedCaption:
    """A caption with what the other captions of its image say of its objects."""

    support: float
    """Support of the least supported object, in [0, 1]; 1 for a caption without objects, NaN without other captions."""
    objects: dict[str, float]
    """Object → share of the other captions that mention it."""

    @property
    def doubted(self) -> list[str]:
        """The objects that no other caption mentions."""
        return [name for name, share in self.objects.items() if share == 0]


def cross_check(
    captions: Sequence[str], images: Sequence[str], systems: Sequence[str], finder: ObjectFinder
) -> list[CheckedCaption]:
    """Check N captions against each other.

    A caption is compared with the captions of its image by other systems. Where all captions of an image are by one system,
    it is compared with that system's other samples.

    Args:
        captions: N captions.
        images: N names of images; captions with the same name are of the same image.
        systems: N names of the systems that wrote the captions.
        finder: Finds objects in a text.

    Raises:
        ValueError: The lengths differ.
    """
    if not len(captions) == len(images) == len(systems):
        raise ValueError(f"{len(captions)} captions, {len(images)} images and {len(systems)} systems; give N of each")
    found = [set(finder.mentions(caption)) for caption in captions]
    rows_of_image: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows_of_image.setdefault(image, []).append(row)
    checked = []
    for row, image in enumerate(images):
        same_image = rows_of_image[image]
        others = [other for other in same_image if systems[other] != systems[row]]
        others = others or [other for other in same_image if other != row]
        checked.append(_check(found[row], [found[other] for other in others]))
    return checked


def _check(own: Iterable[str], others: Sequence[set[str]]) -> CheckedCaption:
    if not others:
        return CheckedCaption(math.nan, {})
    shares = {name: sum(name in other for other in others) / len(others) for name in sorted(own)}
    return CheckedCaption(min(shares.values(), default=1.0), shares)
