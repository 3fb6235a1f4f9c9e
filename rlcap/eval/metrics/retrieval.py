"""Retrieval metrics: does a caption find its own image among others, by a retriever that took no part in training?

Pure functions on embeddings. A bag is a tuple of row indices of `image` whose first one is the caption's own image.
Chance is 1/size: 33.3 % in bags of 3, 20 % of 5, 14.3 % of 7 (the sizes of the TrueMatch benchmark).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlcap.types import Sample

BAG_SIZES = (3, 5, 7)
RANDOM_DISTRACTORS = 99

Bag = tuple[int, ...]
"""Row indices of images, the caption's own first; an empty bag means that there is none of that size."""


def ranks(text: ArrayLike, image: ArrayLike, bags: Sequence[Bag]) -> np.ndarray:
    """(N,) rank of the own image by similarity, 1 is best; an image as similar as the own one comes before it.

    So ties never count as hits: an empty caption, equally similar to all, is last. NaN for an empty bag.

    Args:
        text: (N, D) caption vectors.
        image: (M, D) image vectors, M ≥ every index.
        bags: N bags.

    Raises:
        ValueError: the numbers of captions and bags differ, or the widths of the vectors.
    """
    texts, images = np.asarray(text, dtype=np.float64), np.asarray(image, dtype=np.float64)
    if len(texts) != len(bags):
        raise ValueError(f"{len(bags)} bags for {len(texts)} captions")
    if texts.ndim != 2 or images.ndim != 2 or texts.shape[1] != images.shape[1]:
        raise ValueError(f"captions {texts.shape} and images {images.shape} must be (N, D) and (M, D) of one width D")
    result = np.full(len(bags), np.nan)
    for row, bag in enumerate(bags):
        if bag:
            # one sum a pair, in one order: equal images then get equal similarities to the last bit
            similarity = (images[list(bag)] * texts[row]).sum(1)
            result[row] = 1 + np.count_nonzero(similarity[1:] >= similarity[0])
    return result


def recall_at_1(text: ArrayLike, image: ArrayLike, bags: Sequence[Bag]) -> np.ndarray:
    """(N,) 1.0 where the own image is strictly the most similar of its bag, else 0.0; NaN for an empty bag."""
    return _hits(ranks(text, image, bags))


def random_bags(n: int, size: int, seed: int = 0) -> list[Bag]:
    """For each of n images a bag of `size` different ones with itself first; of all n where there are fewer.

    An image's bag depends on (seed, its index, n) alone.
    """
    bags = []
    for own in range(n):
        drawn = np.random.default_rng([seed, own]).choice(n - 1, min(size, n) - 1, replace=False) if n > 1 else ()
        bags.append((own, *(int(other) + (other >= own) for other in drawn)))
    return bags


def hard_bags(samples: Sequence[Sample], size: int, level: str = "hard") -> list[Bag]:
    """Per sample a bag of `size`: itself and its nearest distractors of a level that are among `samples`.

    An empty bag where there are too few of them.
    """
    place = {sample.id: i for i, sample in enumerate(samples)}
    bags = []
    for own, sample in enumerate(samples):
        near = [place[id] for id in sample.distractors.get(level, ()) if id in place][: size - 1]
        bags.append((own, *near) if len(near) == size - 1 else ())
    return bags


def split_bags(samples: Sequence[Sample], seed: int = 0) -> dict[str, list[Bag]]:
    """Metric stem → bags: `bag3`, `bag5`, `bag7` where at least one image has such a bag, and `rd100`.

    With fewer than 100 images the random bag is the whole split and its name says so: `rd60`.
    """
    found = {f"bag{size}": hard_bags(samples, size) for size in BAG_SIZES}
    found = {name: bags for name, bags in found.items() if any(bags)}
    size = min(RANDOM_DISTRACTORS + 1, len(samples))
    if size > 1:
        found[f"rd{size}"] = random_bags(len(samples), size, seed)
    return found


def retrieval_metrics(text: ArrayLike, image: ArrayLike, bags: Mapping[str, Sequence[Bag]]) -> dict[str, np.ndarray]:
    """`<stem>_recall_at_1` (0/1) and `<stem>_mean_rank` (1 is best) per caption, each (N,).

    Args:
        text: (N, D) captions of the first N images.
        image: (M, D) all images of the split, M ≥ N.
        bags: as `split_bags` gives them, M each.
    """
    n = len(np.asarray(text))
    metrics = {}
    for stem, every in bags.items():
        places = ranks(text, image, every[:n])
        metrics[f"{stem}_recall_at_1"] = _hits(places)
        metrics[f"{stem}_mean_rank"] = places
    return metrics


def _hits(places: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(places), np.nan, (places == 1).astype(np.float64))
