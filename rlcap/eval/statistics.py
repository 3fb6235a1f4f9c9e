"""Means, differences and relative changes with 95 % bootstrap intervals, from per-image values.

The intervals are percentile bootstrap intervals (Efron 1979) over images: resample the images with replacement,
recompute the estimate, and take the 2.5th and the 97.5th percentile. Values before and after are *paired*: both belong
to the same images, and each resample draws the same images for both, so that the difficulty of an image cancels out.
Images without a value (NaN) are left out, from both sides of a pair. All functions are pure: they use their own
generator and leave the global random state untouched.

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
"""The number of bootstrap resamples."""
COVERAGE = 0.95
"""The nominal coverage of the intervals."""


class Interval(NamedTuple):
    """An estimate and its 95 % interval; all three are NaN where there is no value to estimate from."""

    mean: float
    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))
"""The interval of an estimate without any value."""


def bootstrap_mean(values: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Return the mean of the per-image `values` (N,) and its interval, from `n` resamples."""
    array = _vector(values)
    array = array[~np.isnan(array)]
    if not len(array):
        return UNDEFINED
    return _interval(array.mean(), _resampled(array, seed, n))


def paired_difference(before: ArrayLike, after: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Return mean(after) − mean(before) over the images that have both values, in the unit of the metric.

    Raises:
        ValueError: The lengths differ.
    """
    first, second = _pairs(before, after)
    return bootstrap_mean(second - first, seed, n)


def relative_change(before: ArrayLike, after: ArrayLike, seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Return the relative change of the mean, over the images that have both values; −0.3 is a fall by 30 %.

    The change is (mean(after) − mean(before)) / |mean(before)|. The result is `UNDEFINED` where the mean before is
    zero. Resamples in which that mean is zero are left out.

    Raises:
        ValueError: The lengths differ.
    """
    first, second = _pairs(before, after)
    if not len(first) or first.mean() == 0:
        return UNDEFINED
    start, end = _resampled(first, seed, n), _resampled(second, seed, n)
    usable = start != 0
    changes = (end[usable] - start[usable]) / np.abs(start[usable])
    return _interval((second.mean() - first.mean()) / abs(first.mean()), changes)


def mean_across_seeds(seeds: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES) -> Interval:
    """Return the mean over training seeds of the mean over images.

    The interval comes from a hierarchical bootstrap, which resamples the seeds and the images.

    Args:
        seeds: Per-image values (N,) for each training seed. Where all have the same length, they must belong to the
            same images in the same order, and a resample draws the same images for every seed. Otherwise the images are
            drawn for each seed separately.
        seed: Seed of the resampling.
        n: The number of resamples.
    """
    rows = [_vector(values) for values in seeds]
    rows = [row for row in rows if not np.isnan(row).all()]
    if not rows:
        return UNDEFINED
    return _interval(np.mean([np.nanmean(row) for row in rows]), _hierarchical(rows, seed, n))


def difference_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES
) -> Interval:
    """Return mean(after) − mean(before) over training seeds and images; each seed is paired with its own start.

    See `mean_across_seeds` for the shape of the arguments.
    """
    pairs = zip(befores, afters, strict=True)
    return mean_across_seeds([_vector(after) - _vector(before) for before, after in pairs], seed, n)


def relative_change_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], seed: int = 0, n: int = RESAMPLES
) -> Interval:
    """Return the relative change of the mean over training seeds and images; each seed is paired with its own start.

    See `mean_across_seeds` for the shape of the arguments.
    """
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
            f"{len(first)} values before and {len(second)} after can't be paired; give both for the same images, in "
            "the same order"
        )
    both = ~(np.isnan(first) | np.isnan(second))
    return first[both], second[both]


@lru_cache(maxsize=4)
def _counts(images: int, seed: int, n: int) -> np.ndarray:
    """Return (n, images) float32: how often each resample draws each image."""
    drawn = np.random.default_rng(seed).integers(0, images, size=(n, images))
    flat = np.bincount((drawn + np.arange(n)[:, None] * images).ravel(), minlength=n * images)
    counts = flat.reshape(n, images).astype(np.float32)
    counts.flags.writeable = False
    return counts


def _resampled(values: np.ndarray, seed: int, n: int) -> np.ndarray:
    """Return the (n,) means of the resampled values; equal lengths and equal seeds draw the same images."""
    rows = max(1, 20_000_000 // len(values))
    if n <= rows:
        return _counts(len(values), seed, n) @ values / len(values)
    parts = range(0, n, rows)  # for a large data set, work in pieces and don't cache the counts
    return np.concatenate(
        [_counts.__wrapped__(len(values), seed + 7919 * i, min(rows, n - i)) @ values / len(values) for i in parts]
    )


def _hierarchical(rows: Sequence[np.ndarray], seed: int, n: int) -> np.ndarray:
    """Return the (n,) means over resampled seeds of the means over resampled images; NaN values have no weight."""
    same = len({len(row) for row in rows}) == 1
    means = []
    for i, row in enumerate(rows):
        counts = _counts(len(row), seed if same else seed + 1 + i, n)
        known = ~np.isnan(row)
        weight = counts @ known.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append(counts @ np.where(known, row, 0.0) / weight)
    # The seeds need another random stream than the images; otherwise the two draws would be correlated.
    chosen = np.random.default_rng([seed, 1]).integers(0, len(rows), size=(n, len(rows)))
    return np.take_along_axis(np.stack(means, 1), chosen, 1).mean(1)


def _interval(mean: float, resamples: np.ndarray) -> Interval:
    tail = (1 - COVERAGE) / 2
    usable = resamples[np.isfinite(resamples)]
    if not len(usable):
        return UNDEFINED
    low, high = np.quantile(usable, [tail, 1 - tail])
    return Interval(float(mean), float(low), float(high))
