"""Objects that a caption names, each given a partner among the objects that are known, one to one.

    similarity of two objects = highest cosine of a name of the one and a name of the other, at least 0
    partners                  = the assignment with the largest sum of similarities; who gets none has 0

ALOHa (Petryk et al., NAACL 2024), section 3. There "a cup or jug" is tried once as a cup and once as a jug, in every
combination with whatever else is undecided, and the best result is kept. As an object has one partner at most, the best
name for each pair comes to the same sum, without the combinations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DIGITS = 5
"""Cosines are rounded to so many: what differs by less is rounding of the encoder, which must not choose partners."""


class Encoder(Protocol):
    """What is asked of a sentence encoder: see `rlcap.scorers.sentence_vectors.SentenceEncoder`."""

    def vectors(self, texts: Sequence[str]) -> Tensor: ...


class NameVectors:
    """Unit vectors of names, the last `most` of them kept: captions of one image, and their references, name the same things
    again and again."""

    def __init__(self, encoder: Encoder, most: int = 20_000) -> None:
        self.encoder, self.most, self.kept = encoder, most, OrderedDict[str, np.ndarray]()

    def get(self, names: Sequence[str]) -> np.ndarray:
        """N different names → (N, D); those not kept are encoded in one call."""
        if new := [name for name in names if name not in self.kept]:
            self.kept.update(zip(new, self.encoder.vectors(new).double().cpu().numpy(), strict=True))
        found = np.stack([self.kept[name] for name in names])
        for name in names:
            self.kept.move_to_end(name)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return found


def compute_similarities(
    vectors: NameVectors, said: Sequence[Sequence[str]], known: Sequence[Sequence[str]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(S, K) in [0, 1] of S and K ≥ 1 objects, each with its names, at least one."""
    names = list(dict.fromkeys(name for thing in (*said, *known) for name in thing))
    place = {name: i for i, name in enumerate(names)}
    rows = vectors.get(names)
    cosines = np.round(rows @ rows.T, DIGITS).clip(0.0, 1.0)
    found = np.zeros((len(said), len(known)))
    for i, one in enumerate(said):
        for j, other in enumerate(known):
            found[i, j] = cosines[np.ix_([place[name] for name in one], [place[name] for name in other])].max()
    return found


def assign_partners(similarity: np.ndarray) -> list[int | None]:
    """Assign objects to partners so that the sum of similarities is largest.

    Args:
        similarity: (S, K) similarities of S named objects and K known ones, each in [0, 1].

    Returns:
        For each of the S objects the column of its partner, or None where it has none (at least S − K of them).
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity, maximize=True)
    partner_of = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return [partner_of.get(row) for row in range(len(similarity))]


def match_objects(similarity: np.ndarray) -> list[tuple[int | None, float]]:
    """Of each of the S objects its partner's column and their similarity in [0, 1]; (None, 0) without one."""
    return [
        (column, 0.0 if column is None else float(similarity[row, column]))
        for row, column in enumerate(assign_partners(similarity))
    ]
