"""Mining bags: who looks like whom, and is described alike.

As published (algorithms.md §1.8): f = normalise(v + mean of t), with v the image's unit vector and t those of its
references, and neighbours by the inner product of f. Two images that are nearly the same picture would make a bag that no
caption can win, so pairs above `near_identical` are dropped from each other's lists, and counted.

    bags = mine(samples, ClipScorer.load(…), neighbours=32)
    bags.write("bags.json")

With m = `neighbours` asked for, of n − 1 other images: `hard` holds the ranks from 1 on, `medium` those from 4·m + 1,
`easy` those from 16·m + 1; each m ranks long. Where the data set is too small for that, medium starts after a third of
the ranking and easy after two thirds, and the lists may overlap or be shorter.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlcap.data.bags import BagError, BagFile
from rlcap.types import Sample

EXACT_LIMIT = 50_000
"""Vectors up to which search is exact: 20 s at 512 dimensions on two cores. It grows with the square of their number."""
RECALL_TARGET = 0.98
"""Recall@20 that an approximate index is tuned to, against exact search on a sample of queries."""

_DEPTHS = {"hard": 0, "medium": 4, "easy": 16}
_SPARE = 16
"""Ranks searched beyond what the levels need, for near-identical images to be dropped from."""

_CHUNK = 8192
"""Queries per call of faiss, whose answers are twice as wide as what is kept of them."""


class Scorer(Protocol):
    """What mining needs of `rlcap.scorers.clip.ClipScorer`."""

    name: str

    def image_embeddings(self, paths: Sequence[str]) -> Any: ...

    def text_embeddings(self, texts: Sequence[str], pooling: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Search:
    """Neighbours of every vector, without itself, nearest first."""

    scores: np.ndarray
    """(n, k) float32 inner products, descending; −inf where fewer were found."""
    indices: np.ndarray
    """(n, k) int32; −1 where fewer were found."""
    index: str
    """The faiss index, for the record: "exact", or "ivf …, nprobe …"."""
    recall: float
    """Measured recall@20 in [0, 1] against exact search on a sample; 1.0 where the search is exact."""


def search(vectors: np.ndarray, k: int, *, exact_limit: int = EXACT_LIMIT, seed: int = 0) -> Search:
    """The k nearest other vectors of each, by inner product.

    Exact up to `exact_limit` vectors. Above it an inverted file (faiss IVF) whose `nprobe` is doubled until its recall@20
    against exact search, on 1,000 sampled queries, reaches `RECALL_TARGET`; at worst that ends in exact search.

    Args:
        vectors: (n, d) float32, unit length for cosines.
        k: at least 1; at most n − 1 are found.
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
        scores[rows], indices[rows] = _without_self(*index.search(vectors[rows], k + 1), own=rows)
    return Search(scores, indices, name, recall)


def compute_features(samples: Sequence[Sample], scorer: Scorer, *, text: bool = True) -> np.ndarray:
    """(n, D) float32 unit vectors: image plus mean reference text; images without references stay image alone."""
    vectors = np.array(scorer.image_embeddings([sample.image for sample in samples]).cpu(), dtype=np.float32)
    if text:
        unique = {text: i for i, text in enumerate(dict.fromkeys(t for sample in samples for t in sample.references))}
        if unique:
            # a reference is one short caption: no need to pool over sentences
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
    near_identical: float = 0.97,
    text: bool = True,
    fingerprint: str = "",
) -> BagFile:
    """The bag file of a data set.

    Args:
        neighbours: ids per image and level: a bag of size s uses the first s − 1.
        near_identical: similarity in (0, 1] above which two images are taken for the same.
        text: add the references' mean vector to the image's, as published; False compares images alone.
        fingerprint: of the data set; taken from `samples.fingerprint` where there is one.

    Raises:
        BagError: senseless numbers, or fewer than two samples.
        ImageError: an image that can't be opened.
    """
    if neighbours < 1 or not 0 < near_identical <= 1:
        raise BagError(f"neighbours {neighbours} must be 1 or more, near_identical {near_identical} in (0, 1]")
    ids = [sample.id for sample in samples]
    starts = level_starts(len(ids), neighbours)
    found = search(compute_features(samples, scorer, text=text), search_depth(starts, neighbours))
    levels, dropped = level_lists(ids, found, starts, neighbours, near_identical)
    lonely = {level: sum(not found for found in lists.values()) for level, lists in levels.items()}
    if any(lonely.values()):
        counts = ", ".join(f"{level}: {count}" for level, count in lonely.items() if count)
        warnings.warn(
            f"of {len(ids)} images some have no neighbour left ({counts}), after {dropped} pairs above near_identical "
            f"{near_identical} were dropped; raise near_identical, or use a scorer that tells these images apart",
            stacklevel=2,
        )
    about = {
        "neighbours": neighbours,
        "near_identical": near_identical,
        "dropped_pairs": dropped,
        "text": text,
        "images_without_neighbours": lonely,
        "first_rank": {level: start + 1 for level, start in starts.items()},
        "index": found.index,
        "recall_at_20": round(found.recall, 4),
    }
    return BagFile(scorer.name, levels, fingerprint or getattr(samples, "fingerprint", ""), about)


def level_lists(
    ids: Sequence[str], found: Search, starts: dict[str, int], neighbours: int, near_identical: float
) -> tuple[dict[str, dict[str, tuple[str, ...]]], int]:
    """({level: {id: neighbour ids}}, unordered near-identical pairs dropped): ranks count what remains."""
    keep = (found.indices >= 0) & (found.scores <= near_identical)
    rows, columns = np.nonzero((found.indices >= 0) & (found.scores > near_identical))
    partners = found.indices[rows, columns]
    dropped = len(set(zip(np.minimum(rows, partners).tolist(), np.maximum(rows, partners).tolist(), strict=True)))
    levels: dict[str, dict[str, tuple[str, ...]]] = {level: {} for level in starts}
    for row, id in enumerate(ids):
        remaining = found.indices[row][keep[row]]
        for level, start in starts.items():
            levels[level][id] = tuple(ids[i] for i in remaining[start : start + neighbours])
    return levels, dropped


def level_starts(n: int, neighbours: int) -> dict[str, int]:
    """Level → ranks that precede its first."""
    others = n - 1
    shares = {"hard": 0, "medium": others // 3, "easy": 2 * others // 3}
    return {level: min(depth * neighbours, shares[level]) for level, depth in _DEPTHS.items()}


def search_depth(starts: dict[str, int], neighbours: int) -> int:
    """How many neighbours to search for, so that every level is filled."""
    return max(starts.values()) + neighbours + _SPARE


def _approximate(vectors: np.ndarray, k: int, seed: int) -> tuple[Any, str, float]:
    """(index, its name, measured recall@20)."""
    import faiss

    n, d = vectors.shape
    lists = int(4 * n**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid, index.cp.seed = 8, 64, seed + 1
    index.train(vectors)
    index.add(vectors)
    queries = np.random.default_rng(seed).choice(n, min(n, 1000), replace=False)
    exact = exact_neighbours(vectors, queries, 20)
    # The levels reach k deep: look at four times as many vectors, whatever the recall of the nearest 20 asks for.
    probes = min(lists, max(4, math.ceil(4 * k * lists / n)))
    while True:
        index.nprobe = probes
        _, found = _without_self(*index.search(vectors[queries], 21), own=queries)
        recall = measure_recall(found, exact)
        if recall >= RECALL_TARGET or probes >= lists:
            return index, f"ivf {lists} lists, nprobe {probes}", recall
        probes = min(2 * probes, lists)


def exact_neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """(len(queries), k) int64: the nearest other vectors of some, without an index and its copy of the vectors."""
    import faiss

    scores, indices = faiss.knn(vectors[queries], vectors, k + 1, metric=faiss.METRIC_INNER_PRODUCT)
    return _without_self(scores, indices, own=queries)[1]


def measure_recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share in [0, 1] of each row's exact neighbours that were found; both (q, k)."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, exact, strict=True)]))


def _without_self(scores: np.ndarray, indices: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(q, k + 1) → (q, k) without each row's `own` index; where a duplicate pushed it out, without the last."""
    mine = indices == own[:, None]
    mine[~mine.any(1), -1] = True
    shape = (len(indices), indices.shape[1] - 1)
    return scores[~mine].reshape(shape), indices[~mine].reshape(shape)
