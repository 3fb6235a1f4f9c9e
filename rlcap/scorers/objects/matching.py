"""One-to-one matching of the objects that a caption mentions with known objects.

    similarity of two objects = highest cosine between a name of one and a name of the other, at least 0
    partners                  = the assignment with the largest sum of similarities; an object without a partner has 0

The source is ALOHa (Petryk et al., NAACL 2024), section 3. The paper evaluates "a cup or jug" once as a cup and once as
a jug, in every combination with other alternatives, and keeps the best result. An object has at most one partner, so
taking the best name for each pair gives the same sum without the combinations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DIGITS = 5
"""Digits to which cosines are rounded, so that rounding errors of the encoder do not decide between partners."""


class Encoder(Protocol):
    """The interface of a sentence encoder; see `rlcap.scorers.sentence_vectors.SentenceEncoder`."""

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return (N, D) unit vectors of N texts."""
        ...


class NameVectors:
    """A cache of the unit vectors of the `most` names used last.

    The captions of one image, and their references, mention the same objects again and again.
    """

    def __init__(self, encoder: Encoder, most: int = 20_000) -> None:
        self.encoder, self.most, self.kept = encoder, most, OrderedDict[str, np.ndarray]()

    def get(self, names: Sequence[str]) -> np.ndarray:
        """Return (N, D) unit vectors of N different names; missing ones are encoded in one call."""
        if new := [name for name in names if name not in self.kept]:
            self.kept.update(zip(new, self.encoder.vectors(new).double().cpu().numpy(), strict=True))
        vectors = np.stack([self.kept[name] for name in names])
        for name in names:
            self.kept.move_to_end(name)
        while len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return vectors


def compute_similarities(
    vectors: NameVectors, mentioned: Sequence[Sequence[str]], known: Sequence[Sequence[str]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the (S, K) similarities in [0, 1] of S mentioned and K ≥ 1 known objects.

    Args:
        vectors: the vectors of names.
        mentioned: the names of each of S objects, at least one name each.
        known: the names of each of K objects, at least one name each.
    """
    names = list(dict.fromkeys(name for item in (*mentioned, *known) for name in item))
    place = {name: i for i, name in enumerate(names)}
    rows = vectors.get(names)
    cosines = np.round(rows @ rows.T, DIGITS).clip(0.0, 1.0)
    similarity = np.zeros((len(mentioned), len(known)))
    for i, one in enumerate(mentioned):
        for j, other in enumerate(known):
            similarity[i, j] = cosines[np.ix_([place[name] for name in one], [place[name] for name in other])].max()
    return similarity


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
    """Return for each of S objects its partner's column and their similarity in [0, 1]; (None, 0) without partner."""
    return [
        (column, 0.0 if column is None else float(similarity[row, column]))
        for row, column in enumerate(assign_partners(similarity))
    ]
