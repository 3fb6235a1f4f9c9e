"""How well one number orders captions: pairs, groups, Kendall's τ-c, and their bootstrap intervals.

Values of NaN are captions that the reward would not judge: each of their pairs counts half, as a tie does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rlcap.eval.statistics import COVERAGE, UNDEFINED, Interval


def wins(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """(N,) and (N,) → (N,): 1 where the better caption has the higher value, .5 for a tie or a missing value, else 0."""
    with np.errstate(invalid="ignore"):
        return 0.5 + 0.5 * np.sign(np.nan_to_num(better - worse, nan=0.0))


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """Share of the pairs (one of `low`, one of `high`) in which the latter has the higher value; ties half. NaN values are
    left out; NaN where a side is empty."""
    low, high = np.sort(low[~np.isnan(low)]), high[~np.isnan(high)]
    if not len(low) or not len(high):
        return float("nan")
    return float((np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")).mean() / (2 * len(low)))


def kendall_tau_c(values: np.ndarray, ratings: np.ndarray) -> float:
    """Stuart's τ-c = 2 (P − Q) / (n² (m − 1) / m), in [-1, 1], of values (N,) and ratings (N,) with few levels.

    P and Q: pairs that both order alike and oppositely; m: the smaller number of distinct values of the two.
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
    """(M, G) and (M, G) → per group (pairs ordered as the truth orders them, pairs whose truths differ), each (M,)."""
    first, second = np.triu_indices(values.shape[1], 1)
    gap = truth[:, first] - truth[:, second]
    agreed = wins(np.sign(gap) * values[:, first], np.sign(gap) * values[:, second])
    differ = gap != 0
    return (agreed * differ).sum(1), differ.sum(1)


def bootstrap(statistic: Callable[[np.ndarray], float], items: int, seed: int = 0, n: int = 1000) -> Interval:
    """The statistic of all items and its 95 % percentile interval over resampled items; `statistic` takes item numbers."""
    whole = statistic(np.arange(items))
    if np.isnan(whole):
        return UNDEFINED
    rng = np.random.default_rng(seed)
    found = [statistic(rng.integers(0, items, items)) for _ in range(n)]
    low, high = np.nanquantile(found, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(whole), float(low), float(high))


def clustered(keys: Sequence[object]) -> list[np.ndarray]:
    """The row numbers of each distinct key, in order of appearance: what a resample draws together."""
    rows: dict[object, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    return [np.array(group) for group in rows.values()]


def group_gain(own: np.ndarray, other: np.ndarray, truth: np.ndarray) -> Interval:
    """How much more often `own` orders a pair as truth does than `other`, on the same groups."""
    (agreed, pairs), (theirs, _) = group_agreement(own, truth), group_agreement(other, truth)
    return bootstrap(lambda drawn: (agreed[drawn] - theirs[drawn]).sum() / pairs[drawn].sum(), len(own))
