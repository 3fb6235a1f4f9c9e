"""How similar a caption is to a judge's correction of it: the edit distance between the two, in words.

    <revised>there is a red ball. there is a boat.</revised>

A correction that changes few words speaks for the caption: there was little to correct and little to add.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_sections
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Sample

MAX_WORDS = 4_000
"""Largest number of words in a correction: a judge that writes without end has not corrected the caption."""


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Return Levenshtein's distance: the smallest number of insertions, deletions and replacements of words.

    By letters, kitten → sitting is 3. The usual table is filled one row at a time in numpy: insertions along a row are
    a running minimum of cost − position.
    """
    codes = {word: i for i, word in enumerate(dict.fromkeys([*first, *second]))}
    across, positions = np.array([codes[word] for word in second], np.int64), np.arange(len(second) + 1)
    row = positions.copy()
    for word in first:
        best = row + 1
        best[1:] = np.minimum(best[1:], row[:-1] + (across != codes[word]))
        row = np.minimum.accumulate(best - positions) + positions
    return int(row[-1])


def edit_similarity(caption: str, revised: str) -> float:
    """Return 1 − edit distance / words of the longer text, in [0, 1]; 0 for a caption without words."""
    first, second = tokenize(caption), tokenize(revised)
    return 1 - edit_distance(first, second) / max(len(first), len(second)) if first else 0.0


class CorrectionReader(Grader):
    """Reads a corrected caption."""

    def parse(self, reply: str, sample: Sample) -> str:
        """Read a corrected caption.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        (revised,) = read_sections(reply, "revised")
        if not 0 < (words := len(tokenize(revised))) <= MAX_WORDS:
            raise ReplyFormatError(f"a correction must have 1 to {MAX_WORDS} words, got {words}")
        return revised
