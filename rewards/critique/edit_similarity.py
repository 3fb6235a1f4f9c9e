"""How much of a caption a judge leaves standing when it corrects it: the distance from caption to rewriting, in words.

    <revised>there is a red ball. there is a boat.</revised>

A rewriting in which few words changed speaks for the caption: there was little to correct and little to add.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Critic
from rlcap.judge.parsing import sections
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Sample

LONGEST = 4_000
"""Words of a rewriting at most: a judge that runs on has not corrected the caption."""


def edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    """Levenshtein's: fewest insertions, deletions and replacements of words. kitten → sitting, by letters: 3.

    A row of the usual table at a time, m · n / 10⁹ seconds: insertions along the row are a running minimum of cost − place.
    """
    codes = {word: i for i, word in enumerate(dict.fromkeys([*first, *second]))}
    across, places = np.array([codes[word] for word in second], np.int64), np.arange(len(second) + 1)
    row = places.copy()
    for word in first:
        best = row + 1
        best[1:] = np.minimum(best[1:], row[:-1] + (across != codes[word]))
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])


def kept(caption: str, revised: str) -> float:
    """1 − edit distance / words of the longer one, in [0, 1]; 0 for a caption without words."""
    first, second = tokenize(caption), tokenize(revised)
    return 1 - edit_distance(first, second) / max(len(first), len(second)) if first else 0.0


class Rewriter(Critic):
    """A critic whose verdict is the caption as it should be."""

    def parse(self, reply: str, sample: Sample) -> str:
        (revised,) = sections(reply, "revised")
        if not 0 < (words := len(tokenize(revised))) <= LONGEST:
            raise ReplyFormatError(f"a correction has 1 to {LONGEST} words, got {words}")
        return revised
