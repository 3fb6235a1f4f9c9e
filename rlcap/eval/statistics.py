"""Means, differences and relative changes with 95 % bootstrap intervals, from per-image values.

Percentile bootstrap (Efron 1979) over images: resample the images with replacement, recompute, take the 2.5th and 97.5th
percentile. Before and after are *paired*: both belong to the same images, and one resample serves both, so that what is
hard about an image cancels out. Images without a value (NaN) are left out, in pairs. Everything is a pure function of its
arguments: the generator is its own and the global random state is never touched.

>>> bootstrap_mean([1.0, 1.0, 1.0])
Interval(mean=1.0, low=1.0, high=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
COVERAGE = 0.95


class Interval(NamedTuple):
    """An estimate and its 95 % interval; all three NaN where there is no value to estimate from."""

    mean: float
    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


def bootstrap_mean(values: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Mean of the per-image `values` (N,) and its interval."""
    array = _vector(values)
    array = array[~np.isnan(array)]
    if not len(array):
        return UNDEFINED
    return _interval(array.mean(), _resampled(array, seed, n))


def paired_difference(before: ArrayLike, after: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """mean(after) − mean(before) over the images that have both, in the metric's unit.

    Raises:
        ValueError: the two are of different length.
    """
    first, second = _pairs(before, after)
    return bootstrap_mean(second - first, seed, n)


def relative_change(before: ArrayLike, after: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """(mean(after) − mean(before)) / |mean(before)| over the images that have both; −0.3 is a fall by 30 %.

    Undefined (NaN) where the mean before is zero; resamples in which it is zero don't count.

    Raises:
        ValueError: the two are of different length.
    """
    first, second = _pairs(before, after)
    if not len(first) or first.mean() == 0:
        return UNDEFINED
    start, end = _resampled(first, seed, n), _resampled(second, seed, n)
    usable = start != 0
    changes = (end[usable] - start[usable]) / np.abs(start[usable])
    return _interval((second.mean() - first.mean()) / abs(first.mean()), changes)


def mean_across_seeds(seeds: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Mean over training seeds of the mean over images, by a hierarchical bootstrap: resample the seeds, then the images.

    Args:
        seeds: per training seed the per-image values (N,). Where all have one length they are taken to be of the same
            images in the same order, and a resample draws the same images for every seed; else each seed draws its own.
    """
    rows = [_vector(values) for values in seeds]
    rows = [row for row in rows if not np.isnan(row).all()]
    if not rows:
        return UNDEFINED
    return _interval(np.mean([np.nanmean(row) for row in rows]), _hierarchical(rows, seed, n))


def difference_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES
) -> Interval:
    """mean(after) − mean(before) over training seeds and images, each seed against its own start (see `mean_across_seeds`)."""
    pairs = zip(befores, afters, strict=True)
    return mean_across_seeds([_vector(after) - _vector(before) for before, after in pairs], seed, n)


def relative_change_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES
) -> Interval:
    """Relative change of the mean over training seeds and images, each seed against its own start (see `mean_across_seeds`)."""
    first, second = [], []
    for before, after in zip(befores, afters, strict=True):
        one, two = _vector(before), _vector(after)
        unpaired = np.isnan(one) | np.isnan(two)
        if not unpaired.all():
            first.append(np.where(unpaired, np.nan, one))
            second.append(np.where(unpaired, np.nan, two))
    start = float(np.mean([np.nanmean(row) for row in first])) if first else 0.0
    if start == 0:
        return UNDEFINED
    end = float(np.mean([np.nanmean(row) for row in second]))
    starts, ends = _hierarchical(first, seed, n), _hierarchical(second, seed, n)
    usable = np.isfinite(starts) & (starts != 0)
    return _interval((end - start) / abs(start), (ends[usable] - starts[usable]) / np.abs(starts[usable]))


def _vector(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"per-image values must be a vector (N,), got the shape {array.shape}")
    return array


def _pairs(before: ArrayLike, after: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = _vector(before), _vector(after)
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} values before and {len(second)} after are no pairs; give both of the same images, in order"
        )
    both = ~(np.isnan(first) | np.isnan(second))
    return first[both], second[both]


@lru_cache(maxsize=4)
def _counts(images: int, seed: int, n: int) -> np.ndarray:
    """(n, images) float32: how often each image was drawn in each resample."""
    drawn = np.random.default_rng(seed).integers(0, images, size=(n, images))
    flat = np.bincount((drawn + np.arange(n)[:, None] * images).ravel(), minlength=n * images)
    counts = flat.reshape(n, images).astype(np.float32)
    counts.flags.writeable = False
    return counts


def _resampled(values: np.ndarray, seed: int, n: int) -> np.ndarray:
    """(n,) means of the resampled values; equal arguments but for the values draw equal images."""
    rows = max(1, 20_000_000 // len(values))
    if n <= rows:
        return _counts(len(values), seed, n) @ values / len(values)
    parts = range(0, n, rows)  # a large data set goes in pieces, and its counts are not kept
    return np.concatenate(
        [_counts.__wrapped__(len(values), seed + 7919 * i, min(rows, n - i)) @ values / len(values) for i in parts]
    )


def _hierarchical(rows: Sequence[np.ndarray], seed: int, n: int) -> np.ndarray:
    """(n,) means over resampled seeds of the means over resampled images; NaN values weigh nothing."""
    same = len({len(row) for row in rows}) == 1
    means = []
    for i, row in enumerate(rows):
        counts = _counts(len(row), seed if same else seed + 1 + i, n)
        known = ~np.isnan(row)
        weight = counts @ known.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(counts @ np.where(known, row, 0.0) / weight)
    # another stream than the images', or the two draws would go together
    chosen = np.random.default_rng([seed, 1]).integers(0, len(rows), size=(n, len(rows)))
    return np.take_along_axis(np.stack(means, 1), chosen, 1).mean(1)


def _interval(mean: float, resamples: np.ndarray) -> Interval:
    tail = (1 - COVERAGE) / 2
    usable = resamples[np.isfinite(resamples)]
    if not len(usable):
        return UNDEFINED
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Interval(float(mean), float(low), float(high))
