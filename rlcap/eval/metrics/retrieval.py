"""Retrieval metrics: does a retriever that took no part in training find the image of a caption among others?

All functions are pure functions of embeddings. A bag is a tuple of row indices of `image`, and its first index is the
caption's own image. The chance level is 1/size: 33.3 % in bags of 3, 20 % in bags of 5 and 14.3 % in bags of 7, the
sizes of the TrueMatch benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlcap.types import Sample

BAG_SIZES = (3, 5, 7)
"""Sizes of the bags of similar images."""
RANDOM_DISTRACTORS = 99
"""The number of random distractors where the split has enough images."""

Bag = tuple[int, ...]
"""Row indices of images, the caption's own first; empty where the image has no bag of the size."""


def ranks(text: ArrayLike, image: ArrayLike, bags: Sequence[Bag]) -> np.ndarray:
    """Return the (N,) ranks of the captions' own images by similarity; 1 is best, NaN stands for an empty bag.

    An image that is as similar as the own image ranks before it, so that ties never count as hits: for an empty
    caption, which is equally similar to all images, the own image is last.

    Args:
        text: (N, D) caption vectors.
        image: (M, D) image vectors; M is greater than every index in the bags.
        bags: N bags.

    Raises:
        ValueError: The numbers of captions and bags differ, or the widths of the vectors differ.
    """
    texts, images = np.asarray(text, dtype=np.float64), np.asarray(image, dtype=np.float64)
    if len(texts) != len(bags):
        raise ValueError(f"{len(bags)} bags for {len(texts)} captions")
    if texts.ndim != 2 or images.ndim != 2 or texts.shape[1] != images.shape[1]:
        raise ValueError(f"captions {texts.shape} and images {images.shape} must be (N, D) and (M, D) of one width D")
    result = np.full(len(bags), np.nan)
    for row, bag in enumerate(bags):
        if bag:
            # Sum each pair in the same order, so that equal images get bitwise equal similarities.
            similarity = (images[list(bag)] * texts[row]).sum(1)
            result[row] = 1 + np.count_nonzero(similarity[1:] >= similarity[0])
    return result


def recall_at_1(text: ArrayLike, image: ArrayLike, bags: Sequence[Bag]) -> np.ndarray:
    """Return (N,) 1.0 where the own image is strictly the most similar of its bag, else 0.0; NaN for an empty bag."""
    return _hits(ranks(text, image, bags))


def random_bags(n: int, size: int, seed: int = 0) -> list[Bag]:
    """Draw for each of n images a bag of `size` different images, its own first; a bag of all n where n < `size`.

    The bag of an image depends only on (seed, its index, n) and the size.
    """
    bags = []
    for own in range(n):
        drawn = np.random.default_rng([seed, own]).choice(n - 1, min(size, n) - 1, replace=False) if n > 1 else ()
        bags.append((own, *(int(other) + (other >= own) for other in drawn)))
    return bags


def hard_bags(samples: Sequence[Sample], size: int, level: str = "hard") -> list[Bag]:
    """Return for each sample a bag of `size`: itself and its nearest distractors of a level that are among `samples`.

    The bag is empty where there are too few distractors.
    """
    row_of_id = {sample.id: i for i, sample in enumerate(samples)}
    bags = []
    for own, sample in enumerate(samples):
        near = [row_of_id[id] for id in sample.distractors.get(level, ()) if id in row_of_id][: size - 1]
        bags.append((own, *near) if len(near) == size - 1 else ())
    return bags


def split_bags(samples: Sequence[Sample], seed: int = 0) -> dict[str, list[Bag]]:
    """Return metric stem → bags: `bag3`, `bag5`, `bag7` where at least one image has such a bag, and `rd100`.

    With fewer than 100 images, say 60, the random bag is the whole split and its stem is `rd60`.
    """
    bags_of_stem = {f"bag{size}": hard_bags(samples, size) for size in BAG_SIZES}
    bags_of_stem = {stem: bags for stem, bags in bags_of_stem.items() if any(bags)}
    size = min(RANDOM_DISTRACTORS + 1, len(samples))
    if size > 1:
        bags_of_stem[f"rd{size}"] = random_bags(len(samples), size, seed)
    return bags_of_stem


def retrieval_metrics(text: ArrayLike, image: ArrayLike, bags: Mapping[str, Sequence[Bag]]) -> dict[str, np.ndarray]:
    """Return `<stem>_recall_at_1` (0 or 1) and `<stem>_mean_rank` (1 is best) of each caption, each (N,).

    Args:
        text: (N, D) vectors of the captions of the first N images.
        image: (M, D) vectors of all images of the split, M ≥ N.
        bags: Metric stem → M bags, as `split_bags` returns them.
    """
    n = len(np.asarray(text))
    metrics = {}
    for stem, stem_bags in bags.items():
        own_ranks = ranks(text, image, stem_bags[:n])
        metrics[f"{stem}_recall_at_1"] = _hits(own_ranks)
        metrics[f"{stem}_mean_rank"] = own_ranks
    return metrics


def _hits(own_ranks: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(own_ranks), np.nan, (own_ranks == 1).astype(np.float64))
