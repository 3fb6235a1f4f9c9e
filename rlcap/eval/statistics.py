"""Means, differences and relative changes with 95 % intervals, from per-image values, clusters of images and seeds.

**Clusters.** Images that resemble each other succeed and fail together, so the interval speaks of *clusters* of images
and not of images. It is mean ± t · standard error. The standard error is the cluster-robust one with the correction CR2
(Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage samples", Survey
Methodology 28), and t has their degrees of freedom, computed with the correlation within clusters that the values show
(Imbens and Kolesár 2016, "Robust standard errors in small samples", Review of Economics and Statistics 98, §III). With
clusters of equal size these are (number of clusters − 1). The standard error is multiplied by √(1 + 1 / (df + 1)): the
means of a few clusters are skewed where the metric is a share, and without the factor, which simulation has chosen, five
clusters hold the truth in .925 of the cases. A bootstrap of five clusters holds it in .85.

**Seeds.** With one training seed, the interval says where the mean lies for *other images and the same seed*. With
several seeds it says where it lies for *other images and other seeds*. The seeds are a level of their own, crossed with
the images, because every seed captions the same images:

    V = V_seed + max(0, V_cluster − V_both)

V_seed is the variance of the mean over seeds, V_cluster the CR2 variance of the images' means over seeds, and V_both the
variance by what is peculiar to a cluster in one seed, which the first two both contain (Cameron, Gelbach and Miller 2011,
"Robust inference with multiway clustering", Journal of Business and Economic Statistics 29, eq. 2.13). Two or three
seeds tell little about V_seed, so each part brings the quantile of its own degrees of freedom, as in Cochran and Cox's
test of unequal variances (1950, Experimental Designs, §4.14):

    t = (t_seed · V_seed + t_cluster · max(0, V_cluster − V_both)) / V,    interval = mean ± t · √V

**Shares.** Where all values are 0 or 1, their mean is a share, and the symmetric interval is wrong near 0 and 1: it misses
a share of .02 in up to four of five cases, because few clusters hold the rare event. A mean of such values therefore has
Wilson's score interval (Wilson 1927, "Probable inference, the law of succession, and statistical inference", Journal of the
American Statistical Association 22) with the *effective* number of images, which is share · (1 − share) / V, as Korn and
Graubard (1998, "Confidence intervals for proportions with small expected number of positive counts estimated from survey
data", Survey Methodology 24) propose for samples of clusters. Differences of shares keep the symmetric interval: one that is
put together from the intervals of both shares (Newcombe 1998, Statistics in Medicine 17) holds the truth in only .83 of the
cases over seeds that differ.

`benchmarks/coverage.py` measures how often these intervals hold the truth; docs/evaluation.md shows the table. The
former percentile bootstrap over images, and over two or three seeds, held it too rarely.

Values before and after are *paired*: both belong to the same images, so that the difficulty of an image cancels out.
Images without a value (NaN) are left out, from both sides of a pair. All functions are pure and use no random numbers.

>>> mean_interval([1.0, 1.0, 1.0])
Interval(mean=1.0, low=1.0, high=1.0, df=2.0, clusters=3)
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

COVERAGE = 0.95
"""The nominal coverage of the intervals."""

Clusters = Sequence[Hashable] | None
"""The cluster of each of N images, under any name; None where each image is a cluster of its own."""


class Interval(NamedTuple):
    """An estimate and its 95 % interval.

    All numbers are NaN where there is no value to estimate from. The ends are NaN where there is only one cluster, which
    says nothing about others.
    """

    mean: float
    low: float
    high: float
    df: float | None = None
    """Degrees of freedom of Student's t; None where the interval combines two distributions, or comes from a bootstrap."""
    clusters: int | None = None
    """The number of clusters with a value; None where it was not counted."""


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))
"""The interval of an estimate without any value."""


def mean_interval(values: ArrayLike, clusters: Clusters = None) -> Interval:
    """Return the mean of the per-image `values` (N,) and its interval over clusters."""
    return mean_across_seeds([values], clusters)


def paired_difference(before: ArrayLike, after: ArrayLike, clusters: Clusters = None) -> Interval:
    """Return mean(after) − mean(before) over the images that have both values, in the unit of the metric.

    Raises:
        ValueError: The lengths differ.
    """
    return difference_across_seeds([before], [after], clusters)


def relative_change(before: ArrayLike, after: ArrayLike, clusters: Clusters = None) -> Interval:
    """Return the relative change of the mean, over the images that have both values; −0.3 is a fall by 30 %.

    See `relative_change_across_seeds`.

    Raises:
        ValueError: The lengths differ.
    """
    return relative_change_across_seeds([before], [after], clusters)


def mean_across_seeds(seeds: Sequence[ArrayLike], clusters: Clusters = None) -> Interval:
    """Return the mean over training seeds of the mean over images, and its interval over seeds and clusters.

    Args:
        seeds: Per-image values (N,) for each training seed, of the same images in the same order. Seeds without any
            value are left out.
        clusters: The cluster of each image.

    Raises:
        ValueError: The lengths differ.
    """
    rows = [row for row in _rows(seeds) if not np.isnan(row).all()]
    if not rows:
        return UNDEFINED
    values = np.stack(rows)
    interval = _interval(values, clusters)
    if not np.isin(values, (0, 1))[~np.isnan(values)].all():
        return interval
    images = (~np.isnan(values)).sum() / len(values)
    low, high = share_interval(interval.mean, interval.high - interval.mean, images, interval.clusters or 0)
    return Interval(interval.mean, float(low), float(high), interval.df, interval.clusters)


def difference_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], clusters: Clusters = None
) -> Interval:
    """Return mean(after) − mean(before) over training seeds and images; each seed is paired with its own start.

    See `mean_across_seeds` for the shape of the arguments.

    Raises:
        ValueError: The lengths differ.
    """
    first, second = _pairs(befores, afters)
    return _mean_of_differences([after - before for before, after in zip(first, second, strict=True)], clusters)


def relative_change_across_seeds(
    befores: Sequence[ArrayLike], afters: Sequence[ArrayLike], clusters: Clusters = None
) -> Interval:
    """Return the relative change of the mean over training seeds and images; each seed is paired with its own start.

    The change is R = (mean(after) − mean(before)) / |mean(before)|. Its interval is that of the mean of the linearised
    values R + (after − before · mean(after) / mean(before)) / |mean(before)| (the delta method, as for any ratio of
    means: Cochran 1977, Sampling Techniques, eq. 6.13). It is too narrow where the mean before is hardly distinct from
    zero. The result is `UNDEFINED` where the mean before is zero.

    See `mean_across_seeds` for the shape of the arguments.

    Raises:
        ValueError: The lengths differ.
    """
    first, second = _pairs(befores, afters)
    pairs = [pair for pair in zip(first, second, strict=True) if not np.isnan(pair[0]).all()]
    start = float(np.mean([np.nanmean(before) for before, _ in pairs])) if pairs else 0.0
    if start == 0:
        return UNDEFINED
    end = float(np.mean([np.nanmean(after) for _, after in pairs]))
    change = (end - start) / abs(start)
    return _mean_of_differences(
        [change + (after - before * (end / start)) / abs(start) for before, after in pairs], clusters
    )


def describe_units(images: int, clusters: int | None, seeds: int = 1) -> str:
    """Return over what an interval was taken: "over 44 clusters (308 images), 3 seeds".

    Args:
        images: The number of images.
        clusters: The number of clusters; None where the captions file does not name them, so that each image counts as
            a cluster of its own.
        seeds: The number of training seeds. With one, the interval says nothing about other seeds.
    """
    if clusters is None:
        text = f"over {images} images, each taken as independent because the captions file names no clusters"
    else:
        text = f"over {clusters} cluster{'s' * (clusters != 1)} ({images} image{'s' * (images != 1)})"
    return f"{text}, {seeds} seeds" if seeds > 1 else text


def t_quantile(df: ArrayLike, tail: float = (1 - COVERAGE) / 2) -> np.ndarray:
    """Return the quantile of Student's t with `tail` of the distribution above it."""
    return stdtrit(df, 1 - tail)


class Estimate(NamedTuple):
    """Means and half-widths of intervals, all of one shape."""

    mean: np.ndarray
    half: np.ndarray
    """NaN where there is only one cluster."""
    df: np.ndarray
    """Degrees of freedom of the variance by clusters."""
    clusters: np.ndarray
    """The number of clusters with a value."""


def estimate(values: np.ndarray, clusters: Clusters = None) -> Estimate:
    """Compute many intervals at once, as a simulation of their coverage needs.

    Args:
        values: (..., S, N) values of S seeds and N images; NaN where there is no value. Every seed has one.
        clusters: The cluster of each of the N images.

    Raises:
        ValueError: There are not N clusters.
    """
    count = values.shape[-1]
    codes = np.arange(count) if clusters is None else _codes(clusters)
    if len(codes) != count:
        raise ValueError(f"{len(codes)} clusters for {count} images; give each image its cluster")
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))

    def sums(array: np.ndarray) -> np.ndarray:
        return np.add.reduceat(array[..., order], starts, axis=-1)

    known = ~np.isnan(values)
    number = known.sum(-1, keepdims=True)  # (..., S, 1)
    seed_means = np.where(known, values, 0).sum(-1, keepdims=True) / number
    residuals = np.where(known, values - seed_means, 0) / number  # what each image adds to the error of its seed's mean
    share = sums(known / number).mean(-2)  # (..., G) of the weight of the mean
    by_seed = sums(residuals)  # (..., S, G)
    of_cluster = by_seed.mean(-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = np.where(share < 1 - 1e-9, 1 / (1 - share), np.nan)  # CR2; a single cluster has no variance
    by_cluster = (of_cluster**2 * correction).sum(-1)
    df = _degrees_of_freedom(share * number.mean((-2, -1))[..., None], of_cluster, residuals.mean(-2))
    quantile = t_quantile(df) * np.sqrt(1 + 1 / (df + 1))
    mean, seeds = seed_means.mean((-2, -1)), values.shape[-2]
    present = (share > 0).sum(-1)
    if seeds == 1:
        return Estimate(mean, quantile * np.sqrt(by_cluster), df, present)
    by_both = ((by_seed - of_cluster[..., None, :]) ** 2 * correction[..., None, :]).sum((-2, -1))
    by_cluster = np.maximum(0, by_cluster - by_both / (seeds * (seeds - 1)))
    across_seeds = seed_means[..., 0].var(-1, ddof=1) / seeds
    total = across_seeds + by_cluster
    weighted = t_quantile(seeds - 1) * across_seeds + quantile * by_cluster
    half = np.where(total == 0, 0, weighted / np.sqrt(np.where(total == 0, 1, total)))
    return Estimate(mean, half, df, present)


def share_interval(
    share: ArrayLike, half: ArrayLike, images: ArrayLike, clusters: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's interval of shares, with the effective number of images that a half-width implies.

    Wilson's interval contains every π with |share − π| ≤ t · √(π (1 − π) / n). A symmetric interval has the half-width
    t · √(share · (1 − share) / n) with the effective n, so that t² / n = half² / (share · (1 − share)). Where the
    half-width is 0, as where no caption has the rare event, n is the number of images, and t that of the clusters.

    Args:
        share: Means of values that are 0 or 1, in [0, 1].
        half: Half-widths of their symmetric intervals; NaN gives NaN.
        images: Numbers of images of a seed.
        clusters: Numbers of clusters.
    """
    share, half = np.asarray(share, np.float64), np.asarray(half, np.float64)
    product = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = half**2 / product
        ratio = np.where(half == 0, t_quantile(np.asarray(clusters) - 1) ** 2 / images, ratio)
    centre = (share + ratio / 2) / (1 + ratio)
    spread = np.sqrt(ratio * product + ratio**2 / 4) / (1 + ratio)
    return np.maximum(0, centre - spread), np.minimum(1, centre + spread)


def _degrees_of_freedom(sizes: np.ndarray, of_cluster: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return Bell and McCaffrey's degrees of freedom of the CR2 variance of a mean, (...).

    They are tr(M)² / tr(M²). With p_g the weights of the images in the corrected residual of cluster g, M_gh is p_g'Ωp_h.
    Ω has 1 on its diagonal and the correlation ρ between images of one cluster. ρ is the mean product of two residuals of
    a cluster over the mean square of a residual (Imbens and Kolesár 2016, §III.B), within [0, 1].

    Args:
        sizes: (..., G) images in each cluster.
        of_cluster: (..., G) sums of the residuals of each cluster.
        residuals: (..., N) residuals.
    """
    total = sizes.sum(-1)
    squares = (residuals**2).sum(-1)
    pairs = (sizes**2).sum(-1) - total
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = ((of_cluster**2).sum(-1) - squares) / pairs / (squares / total)
        rho = np.where((pairs > 0) & (squares > 0), np.clip(rho, 0, 1), 0)[..., None]
        variance = sizes * (1 - rho) + sizes**2 * rho  # of the sum over each cluster
        share = sizes / total[..., None]
        factor = np.where(share < 1 - 1e-9, 1 / np.sqrt(1 - share), np.nan)
        # M = diag(d) − x y' − y x' + v y y', so that both traces need no matrix
        x, y, d, v = factor * variance, factor * share, factor**2 * variance, variance.sum(-1)
        xx, yy, xy = (x * x).sum(-1), (y * y).sum(-1), (x * y).sum(-1)
        off = -2 * x * y + v[..., None] * y * y  # the diagonal of M − diag(d)
        trace = (d + off).sum(-1)
        square = (d * d + 2 * d * off).sum(-1) + 2 * xx * yy + 2 * xy**2 + v**2 * yy**2 - 4 * v * xy * yy
        return trace**2 / square


def _rows(seeds: Sequence[ArrayLike]) -> list[np.ndarray]:
    rows = [np.asarray(values, dtype=np.float64) for values in seeds]
    for row in rows:
        if row.ndim != 1:
            raise ValueError(f"per-image values must be a vector (N,), got the shape {row.shape}")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"the seeds have {', '.join(str(len(row)) for row in rows)} values; give the values of the same images, in "
            "the same order"
        )
    return rows


def _pairs(befores: Sequence[ArrayLike], afters: Sequence[ArrayLike]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the values before and after of each seed, both NaN where one of them is."""
    pairs = []
    for before, after in zip(_rows(befores), _rows(afters), strict=True):
        if len(before) != len(after):
            raise ValueError(
                f"{len(before)} values before and {len(after)} after can't be paired; give both for the same images, in "
                "the same order"
            )
        unpaired = np.isnan(before) | np.isnan(after)
        pairs.append((np.where(unpaired, np.nan, before), np.where(unpaired, np.nan, after)))
    return [before for before, _ in pairs], [after for _, after in pairs]


def _mean_of_differences(seeds: Sequence[np.ndarray], clusters: Clusters) -> Interval:
    """Return the mean of values that are no shares, even where all of them are 0 or 1."""
    rows = [row for row in seeds if not np.isnan(row).all()]
    return _interval(np.stack(rows), clusters) if rows else UNDEFINED


def _codes(clusters: Sequence[Hashable]) -> np.ndarray:
    """Return (N,) numbers of the clusters, in the order in which they appear."""
    code_of: dict[Hashable, int] = {}
    return np.array([code_of.setdefault(cluster, len(code_of)) for cluster in clusters], np.int64)


def _interval(values: np.ndarray, clusters: Clusters) -> Interval:
    """Return the interval of (S, N) values."""
    found = estimate(values, clusters)
    mean, half = float(found.mean), float(found.half)
    df = round(float(found.df), 9) if len(values) == 1 and np.isfinite(found.df) else None
    return Interval(mean, mean - half, mean + half, df, int(found.clusters))
