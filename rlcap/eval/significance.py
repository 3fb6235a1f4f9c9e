"""Permutation tests, a correction for many of them, and what difference an experiment could have found.

An interval says where a difference lies. Who looks at forty metrics of five mixes finds intervals that exclude zero by chance
alone; these functions say how surprising the whole table is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rlcap.eval.statistics import Clusters, Interval, t_quantile

EXACT = 14
"""Number of clusters up to which all 2^k sign changes are tried."""
PERMUTATIONS = 10_000
"""Random sign changes where there are more clusters."""
POWER = 0.8
"""Probability with which `detectable_difference` would have been found, as usual in the planning of experiments."""


def permutation_p_value(differences: ArrayLike, clusters: Clusters = None, seed: int = 0) -> float:
    """Return the two-sided p-value that paired differences have the mean zero, by changes of sign.

    If two captioners are equally good, the sign of a cluster's summed difference is as likely + as −. The p-value is the
    share of sign assignments whose absolute mean is at least the observed one (Fisher 1935, The Design of Experiments, §21;
    of random assignments it is (1 + hits) / (1 + draws), Phipson and Smyth 2010). It speaks of these training seeds.

    Args:
        differences: (N,) values after minus before, per image; NaN is left out. Average over seeds first.
        clusters: The cluster of each image.
        seed: Seed of the random sign changes.

    Returns:
        A number in (0, 1]; NaN where there is no difference to test.
    """
    values = np.asarray(differences, dtype=np.float64)
    known = ~np.isnan(values)
    if not known.any():
        return math.nan
    names = np.arange(len(values)) if clusters is None else np.asarray([str(cluster) for cluster in clusters])
    _, codes = np.unique(names[known], return_inverse=True)
    sums = np.bincount(codes, weights=values[known])
    sums = sums[sums != 0]  # a zero keeps its value under either sign
    observed = abs(sums.sum()) * (1 - 1e-12)
    if len(sums) <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(sums)))).reshape(2 ** len(sums), len(sums))
        return float((np.abs(signs @ sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for start in range(0, PERMUTATIONS, 1000):  # in parts: 10,000 × 1,000 clusters would be 80 MB
        signs = rng.choice((-1.0, 1.0), (min(1000, PERMUTATIONS - start), len(sums)))
        hits += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + hits) / (1 + PERMUTATIONS)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that are corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6).

    With .01, .04 and .03 they are .03, .06 and .06: the smallest is multiplied by 3, the next by 2, and none is below one
    before it. NaN stays NaN and does not count.
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def detectable_difference(interval: Interval) -> float:
    """Return the difference that this design would have found with probability .8, in the unit of the metric.

    "Found" means that the 95 % interval excludes zero. It is (t_.975 + t_.8) / t_.975 times the half-width of the interval,
    with its degrees of freedom, or those of a normal distribution where it has none: 1.4 times the half-width for many
    clusters. Smaller true differences may exist and remain unclear.

    Args:
        interval: The interval of a difference, which is symmetric.

    Returns:
        A number of 0 or more; NaN where the interval has no ends.
    """
    half = interval.high - interval.mean
    df = 1e9 if interval.df is None or math.isnan(interval.df) else interval.df
    return half * (1 + float(t_quantile(df, 1 - POWER)) / float(t_quantile(df)))
