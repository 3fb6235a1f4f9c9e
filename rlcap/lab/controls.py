"""Controls in the lab: their words, and the question that a row asks.

The vocabulary of the lab's captioner is closed (`rlcap.lab.world.language.vocabulary`): it has no number above five and no question
word. So a length is one of twelve sizes, from `small two` (about 6 words) to `large five` (about 64), a level is a place, from the bottom
(1) to the top (9), and a question is the beginning of its answer (`the ball is`).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import numpy as np

from rlcap.data.control import Phrase
from rlcap.lab.world.language import NUMBERS, PLACE_PHRASES, PLURALS
from rlcap.lab.world.truth import words
from rlcap.lab.world.vocabulary import KINDS, PLACES, SIZES
from rlcap.types import Control, Sample

LENGTHS = (6, 10, 14, 18, 22, 26, 30, 34, 38, 44, 52, 64)
"""Lengths in words that the lab distinguishes; half of the fused paragraphs have 17 to 33 words."""

PHRASES: Mapping[str, Phrase] = {
    "length": {
        length: f"{size} {number} ."
        for length, (size, number) in zip(LENGTHS, itertools.product(SIZES, NUMBERS.values()), strict=True)
    },
    "level": {level: f"{PLACE_PHRASES[place]} ." for level, place in enumerate(reversed(PLACES), 1)},
    "format": {"SSC": "small .", "DSC": "medium .", "DSC+": "large ."},
    "question": "{value} .",
}
"""Control → its words in the lab's language."""
_KIND_OF = {kind: kind for kind in KINDS} | {plural: kind for kind, plural in PLURALS.items()}


def mentioned_kinds(text: str) -> list[str]:
    """Return the kinds that a text names, in the order of their first mention."""
    return list(dict.fromkeys(_KIND_OF[word] for word in words(text) if word in _KIND_OF))


def ask(id: str, paragraph: str) -> str | None:
    """Return a question about one of the kinds that a paragraph names; None where it names none. It depends on the arguments alone."""
    kinds = mentioned_kinds(paragraph)
    return f"the {random.Random(f'{id}/question').choice(kinds)} is" if kinds else None


def asked_kind(control: Control) -> str | None:
    """Return the kind that a row asks about; None where it asks nothing of the lab's form."""
    kinds = mentioned_kinds(control.question or "")
    return kinds[0] if kinds else None


def answered(captions: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
    """Return (N,) 1 where a caption names the kind that its row asks about, 0 where it does not, and NaN where the row asks nothing."""
    return np.array(
        [
            np.nan if (kind := asked_kind(sample.control)) is None else float(kind in mentioned_kinds(caption))
            for caption, sample in zip(captions, samples, strict=False)
        ]
    )
