"""Mining of bags: finds images that look alike and have similar references.

The published method (algorithms.md §1.8) compares images by the inner product of f = normalise(v + mean of t), where v
is the unit vector of the image and t are the unit vectors of its references. If two images are nearly the same picture,
no caption can distinguish them. Pairs with a similarity above `near_identical` are therefore removed from each other's
lists and counted.

    bags = mine(samples, ClipScorer.load(…), neighbours=32)
    bags.write("bags.json")

Each image ranks the n − 1 other images. With m = `neighbours`, `hard` contains m ranks from rank 1 on, `medium` m ranks
from rank 4·m + 1 on, and `easy` m ranks from rank 16·m + 1 on. In a smaller data set, medium starts after a third of
the ranking and easy after two thirds; the lists may then overlap or be shorter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from rlcap.data.bags import BagFile
from rlcap.errors import BagError
from rlcap.types import Sample

EXACT_LIMIT = 50_000
"""Up to this number of vectors, search is exact: 20 s at 512 dimensions on two cores, growing with its square."""
RECALL_TARGET = 0.98
"""Recall@20 against exact search on a sample of queries that an approximate index is tuned to."""

_DEPTHS = {"hard": 0, "medium": 4, "easy": 16}
"""Level → ranks before its first one, in units of the list length m."""
_SPARE = 16
"""Extra ranks to search, because near-identical images will be removed."""

NEAR_IDENTICAL = 0.97
"""Similarity above which two images count as the same picture."""

_CHUNK = 8192
"""Queries per call of faiss, to limit the memory for its results, which are twice as wide as the part that is kept."""


class Scorer(Protocol):
    """The interface that mining needs; `rlcap.scorers.clip.ClipScorer` implements it."""

    name: str
    """Name of the scorer, which the bag file records."""

    def image_embeddings(self, paths: Sequence[str]) -> Any:
        """Return the (N, D) unit vectors of N image files as a tensor."""

    def text_embeddings(self, texts: Sequence[str], pooling: Literal["whole"]) -> Any:
        """Return an object whose `vectors` are the (N, D) unit vectors of N texts as a tensor."""


@dataclass(frozen=True, slots=True)
class Search:
    """The k nearest neighbours of each of n vectors, without the vector itself, nearest first."""

    scores: np.ndarray
    """(n, k) float32 inner products in descending order; −inf where the search returned fewer than k."""
    indices: np.ndarray
    """(n, k) int32 indices of the neighbours; −1 where the search returned fewer than k."""
    index: str
    """Description of the faiss index: "exact", or "ivf …, nprobe …"."""
    recall: float
    """Measured recall@20 in [0, 1] against exact search on a sample of queries; 1.0 where the search is exact."""


def search(vectors: np.ndarray, k: int, *, exact_limit: int = EXACT_LIMIT, seed: int = 0) -> Search:
    """Find the k nearest other vectors of each vector, by inner product.

    The search is exact up to `exact_limit` vectors. Above, it uses an inverted file (faiss IVF) and doubles `nprobe`
    until the recall@20 against exact search, on 1,000 sampled queries, reaches `RECALL_TARGET`. In the worst case it
    searches all lists, which is exact.

    Args:
        vectors: (n, d) float32; of unit length if the scores shall be cosines.
        k: Neighbours per vector, at least 1; at most n − 1 exist.
        exact_limit: The number of vectors up to which the search is exact.
        seed: Seed of the approximate index and of the sampled queries.

    Raises:
        BagError: There are fewer than two vectors.
    """
    import faiss

    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    n, d = vectors.shape
    if n < 2:
        raise BagError(f"{n} images have no neighbours; mining needs two or more")
    k = min(k, n - 1)
    index, name, recall = faiss.IndexFlatIP(d), "exact", 1.0
    if n <= exact_limit:
        index.add(vectors)
    else:
        index, name, recall = _approximate(vectors, k, seed)
    scores, indices = np.empty((n, k), np.float32), np.empty((n, k), np.int32)
    for start in range(0, n, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, n))
        scores[rows], indices[rows] = _remove_self(*index.search(vectors[rows], k + 1), own=rows)
    return Search(scores, indices, name, recall)


def compute_features(samples: Sequence[Sample], scorer: Scorer, *, text: bool = True) -> np.ndarray:
    """Return (n, D) float32 unit vectors of the samples: the image vector plus the mean vector of the references.

    Samples without references, or all samples without `text`, have the image vector alone.
    """
    vectors = np.array(scorer.image_embeddings([sample.image for sample in samples]).cpu(), dtype=np.float32)
    if text:
        unique = {text: i for i, text in enumerate(dict.fromkeys(t for sample in samples for t in sample.references))}
        if unique:
            # A reference is one short caption, so that pooling over sentences is unnecessary.
            texts = np.array(scorer.text_embeddings(list(unique), pooling="whole").vectors.cpu(), dtype=np.float32)
            for row, sample in enumerate(samples):
                if sample.references:
                    vectors[row] += texts[[unique[t] for t in sample.references]].mean(0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def mine(
    samples: Sequence[Sample],
    scorer: Scorer,
    *,
    neighbours: int = 32,
    near_identical: float = NEAR_IDENTICAL,
    text: bool = True,
    fingerprint: str = "",
) -> BagFile:
    """Mine the bag file of a data set.

    Args:
        samples: The samples of the data set.
        scorer: Embeds images and texts.
        neighbours: Ids per image and level; a bag of size s uses the first s − 1.
        near_identical: Similarity in (0, 1] above which two images count as the same picture.
        text: Whether to add the mean vector of the references to the vector of the image, as published.
        fingerprint: Fingerprint of the data set; by default `samples.fingerprint` where it exists.

    Raises:
        BagError: An argument is out of range, or there are fewer than two samples.
        ImageError: An image can't be opened.
    """
    if neighbours < 1 or not 0 < near_identical <= 1:
        raise BagError(f"neighbours {neighbours} must be 1 or more, near_identical {near_identical} in (0, 1]")
    ids = [sample.id for sample in samples]
    starts = level_starts(len(ids), neighbours)
    result = search(compute_features(samples, scorer, text=text), search_depth(starts, neighbours))
    levels, dropped = level_lists(ids, result, starts, neighbours, near_identical)
    without_neighbours = {level: sum(not near for near in lists.values()) for level, lists in levels.items()}
    if any(without_neighbours.values()):
        counts = ", ".join(f"{level}: {count}" for level, count in without_neighbours.items() if count)
        warnings.warn(
            f"of {len(ids)} images some have no neighbour left ({counts}), after {dropped} pairs above near_identical "
            f"{near_identical} were dropped; raise near_identical, or use a scorer that distinguishes these images",
            stacklevel=2,
        )
    about = {
        "neighbours": neighbours,
        "near_identical": near_identical,
        "dropped_pairs": dropped,
        "text": text,
        "images_without_neighbours": without_neighbours,
        "first_rank": {level: start + 1 for level, start in starts.items()},
        "index": result.index,
        "recall_at_20": round(result.recall, 4),
    }
    return BagFile(scorer.name, levels, fingerprint or getattr(samples, "fingerprint", ""), about)


def level_lists(
    ids: Sequence[str], result: Search, starts: dict[str, int], neighbours: int, near_identical: float
) -> tuple[dict[str, dict[str, tuple[str, ...]]], int]:
    """Cut the lists of all levels from the ranking of each image.

    Args:
        ids: The n ids.
        result: The ranking of each image.
        starts: Level → ranks before its first one, counted without near-identical images.
        neighbours: Ids per list.
        near_identical: Similarity above which a pair is dropped.

    Returns:
        {level: {id: neighbour ids}}, and the number of dropped unordered pairs.
    """
    keep = (result.indices >= 0) & (result.scores <= near_identical)
    rows, columns = np.nonzero((result.indices >= 0) & (result.scores > near_identical))
    partners = result.indices[rows, columns]
    dropped = len(set(zip(np.minimum(rows, partners).tolist(), np.maximum(rows, partners).tolist(), strict=True)))
    levels: dict[str, dict[str, tuple[str, ...]]] = {level: {} for level in starts}
    for row, id in enumerate(ids):
        remaining = result.indices[row][keep[row]]
        for level, start in starts.items():
            levels[level][id] = tuple(ids[i] for i in remaining[start : start + neighbours])
    return levels, dropped


def level_starts(n: int, neighbours: int) -> dict[str, int]:
    """Return level → ranks before its first one, for a data set of n images."""
    others = n - 1
    shares = {"hard": 0, "medium": others // 3, "easy": 2 * others // 3}
    return {level: min(depth * neighbours, shares[level]) for level, depth in _DEPTHS.items()}


def search_depth(starts: dict[str, int], neighbours: int) -> int:
    """Return how many neighbours to search for, so that every level is filled."""
    return max(starts.values()) + neighbours + _SPARE


def _approximate(vectors: np.ndarray, k: int, seed: int) -> tuple[Any, str, float]:
    """Return an approximate index, its description and its measured recall@20."""
    import faiss

    n, d = vectors.shape
    lists = int(4 * n**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.seed = 8, 64, seed + 1
    index.train(vectors)
    index.add(vectors)
    queries = np.random.default_rng(seed).choice(n, min(n, 1000), replace=False)
    exact = exact_neighbours(vectors, queries, 20)
    # The levels need k neighbours, more than the 20 of the recall: probe at least enough lists for 4·k vectors.
    probes = min(lists, max(4, math.ceil(4 * k * lists / n)))
    while True:
        index.nprobe = probes
        _, approximate = _remove_self(*index.search(vectors[queries], 21), own=queries)
        recall = measure_recall(approximate, exact)
        if recall >= RECALL_TARGET or probes >= lists:
            return index, f"ivf {lists} lists, nprobe {probes}", recall
        probes = min(2 * probes, lists)


def exact_neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Return (len(queries), k) int64: the exact nearest other vectors of the queries, given by their indices.

    The search needs no index, which would hold a copy of the vectors.
    """
    import faiss

    scores, indices = faiss.knn(vectors[queries], vectors, k + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return _remove_self(scores, indices, own=queries)[1]


def measure_recall(neighbours: np.ndarray, exact: np.ndarray) -> float:
    """Return the mean share in [0, 1] of exact neighbours among `neighbours`; both (q, k)."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(neighbours, exact, strict=True)]))


def _remove_self(scores: np.ndarray, indices: np.ndarray, *, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove the index `own` from each row, (q, k + 1) → (q, k).

    Duplicate vectors may have pushed it out of a row; then the last entry is removed.
    """
    removed = indices == own[:, None]
    removed[~removed.any(1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return scores[~removed].reshape(shape), indices[~removed].reshape(shape)
