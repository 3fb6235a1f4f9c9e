"""How well one number orders captions: pairs, groups, Kendall's τ-c, and their bootstrap intervals.

A value of NaN is a caption that the reward would not judge: each of its pairs counts half, as a tie does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlcap.eval.statistics import COVERAGE, UNDEFINED, Interval


def wins(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Return 1 where the better caption has the higher value, .5 for a tie or a missing value, and 0 otherwise.

    Args:
        better: (N,) values of the better captions.
        worse: (N,) values of the worse captions.
    """
    with np.errstate(invalid="ignore"):
        return 0.5 + 0.5 * np.sign(np.nan_to_num(better - worse, nan=0.0))


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Return the share of pairs (one of `low`, one of `high`) in which the latter is higher; ties count half.

    NaN values are left out. The result is NaN where a side is empty.
    """
    low, high = np.sort(low[~np.isnan(low)]), high[~np.isnan(high)]
    if not len(low) or not len(high):
        return float("nan")
    return float((np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).mean() / (2 * len(low)))


def kendall_tau_c(values: np.ndarray, ratings: np.ndarray) -> float:
    """Return Stuart's τ-c = 2 (P − Q) / (n² (m − 1) / m), in [-1, 1].

    P counts the pairs that both order in the same way, Q those that they order in opposite ways; m is the smaller
    number of distinct values of the two.

    Args:
        values: (N,) values.
        ratings: (N,) ratings with few levels.
    """
    levels = np.unique(ratings)
    m = min(len(levels), len(np.unique(values)))
    if m < 2:
        return 0.0
    groups = [np.sort(values[ratings == level]) for level in levels]
    balance = 0.0
    for i, low in enumerate(groups):
        for high in groups[i + 1 :]:
            below = np.searchsorted(low, high, "left").sum()
            above = (len(low) - np.searchsorted(low, high, "right")).sum()
            balance += float(below - above)
    return 2 * balance / (len(values) ** 2 * (m - 1) / m)


def group_agreement(values: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many pairs of each group are ordered as the truth orders them, and how many have different truths.

    Args:
        values: (M, G) values.
        truth: (M, G) truths.

    Returns:
        Two arrays (M,).
    """
    first, second = np.triu_indices(values.shape[1], 1)
    gap = truth[:, first] - truth[:, second]
    agreed = wins(np.sign(gap) * values[:, first], np.sign(gap) * values[:, second])
    differs = gap != 0
    return (agreed * differs).sum(1), differs.sum(1)


def bootstrap(statistic: Callable[[np.ndarray], float], items: int, seed: int = 0, n: int = 1000) -> Interval:
    """Return the statistic of all items and its 95 % percentile interval over resampled items.

    Args:
        statistic: function of item numbers.
        items: number of items.
        seed: seed of the resampling.
        n: number of resamples.
    """
    full_value = statistic(np.arange(items))
    if np.isnan(full_value):
        return UNDEFINED
    rng = np.random.default_rng(seed)
    resampled = [statistic(rng.integers(0, items, items)) for _ in range(n)]
    low, high = np.nanquantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(full_value), float(low), float(high))


def clustered(keys: Sequence[object]) -> list[np.ndarray]:
    """Return the row numbers of each distinct key, in order of appearance, which a resample draws together."""
    rows: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    return [np.array(group) for group in rows.values()]


def group_gain(
    own: np.ndarray, other: np.ndarray, truth: np.ndarray, clusters: Sequence[np.ndarray] | None = None
) -> Interval:
    """Return how much more often `own` than `other` orders a pair as the truth does, on the same groups.

    A resample draws the groups of each of the `clusters` together (see `clustered`); by default each group separately.
    """
    (agreed, pairs), (other_agreed, _) = group_agreement(own, truth), group_agreement(other, truth)
    clusters = clusters or clustered(range(len(own)))

    def gain(drawn: np.ndarray) -> float:
        rows = np.concatenate([clusters[i] for i in drawn])
        return (agreed[rows] - other_agreed[rows]).sum() / pairs[rows].sum()

    return bootstrap(gain, len(clusters))
