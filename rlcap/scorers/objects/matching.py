"""One-to-one matching of the objects that a caption mentions with known objects.

    similarity of two objects = highest cosine between a name of one and a name of the other, at least 0
    partners                  = the assignment with the largest sum of similarities; an object without a partner has 0

The source is ALOHa (Petryk et al., NAACL 2024), section 3. It evaluates "a cup or jug" once as a cup and once as a jug,
in every combination with other alternatives, and keeps the best result. Taking the best name for each pair instead
gives the same mean, but not the same minimum: a name may attract the partner that another object needs.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DIGITS = 5
"""Digits to which cosines are rounded, so that rounding errors of the encoder do not decide between partners."""

MAX_COMBINATIONS = 1024
"""Largest number of combinations of alternative names that are tried; they take up to a quarter of a second."""

Pair = tuple[int | None, float]
"""Of a mentioned object: the index of its partner among the known ones and their similarity; (None, 0) without one."""


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
    place, cosines = _cosines(vectors, (*mentioned, *known))
    similarity = np.zeros((len(mentioned), len(known)))
    for i, one in enumerate(mentioned):
        for j, other in enumerate(known):
            similarity[i, j] = cosines[np.ix_([place[name] for name in one], [place[name] for name in other])].max()
    return similarity


def _cosines(vectors: NameVectors, objects: Sequence[Sequence[str]]) -> tuple[dict[str, int], np.ndarray]:
    """Return the place of each different name of some objects, and the cosines of all pairs of names, at least 0."""
    names = list(dict.fromkeys(name for item in objects for name in item))
    rows = vectors.get(names)
    return {name: i for i, name in enumerate(names)}, np.round(rows @ rows.T, DIGITS).clip(0.0, 1.0)


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


def match_objects(similarity: np.ndarray) -> list[Pair]:
    """Return for each of S objects its partner's column and their similarity in [0, 1]; (None, 0) without partner."""
    return [
        (column, 0.0 if column is None else float(similarity[row, column]))
        for row, column in enumerate(assign_partners(similarity))
    ]


def match_alternatives(
    vectors: NameVectors,
    mentioned: Sequence[Sequence[str]],
    known: Sequence[Sequence[str]],
    pool: Callable[[Sequence[float]], float],
) -> tuple[float, list[Pair]]:
    """Match objects that may have several names, by the combination of names whose pooled similarities are highest.

    In each combination every object has one of its names, and objects of the same name are one object, as published.
    With more than `MAX_COMBINATIONS` combinations, each pair of objects takes its most similar names instead.

    Args:
        vectors: the vectors of names.
        mentioned: the names of each of S objects, at least one name each.
        known: the names of each of K ≥ 1 known objects, at least one name each.
        pool: the value of a combination from the similarities of its mentioned objects, each object once.

    Returns:
        The highest value, and for each of the S objects its partner and their similarity.
    """
    if not mentioned:
        return pool([]), []
    if math.prod(map(len, (*mentioned, *known))) > MAX_COMBINATIONS:
        pairs = match_objects(compute_similarities(vectors, mentioned, known))
        return pool([similarity for _, similarity in pairs]), pairs
    place, cosines = _cosines(vectors, (*mentioned, *known))
    choices = [[[place[name] for name in item] for item in objects] for objects in (mentioned, known)]
    best: list[Pair] = []
    best_value = -math.inf
    for named, present in itertools.product(*(list(itertools.product(*names)) for names in choices)):
        rows, columns = list(dict.fromkeys(named)), list(dict.fromkeys(present))
        pairs = match_objects(cosines[np.ix_(rows, columns)])
        if (value := pool([similarity for _, similarity in pairs])) > best_value:
            own = [pairs[rows.index(name)] for name in named]
            best = [(None if column is None else present.index(columns[column]), same) for column, same in own]
            best_value = value
    return best_value, best
