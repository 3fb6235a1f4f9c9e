"""Intervals over clusters and seeds: golden cases by hand, pairing, NaN, and what widens an interval."""

import numpy as np
import pytest

from rlcap.eval.statistics import (
    describe_units,
    difference_across_seeds,
    mean_across_seeds,
    mean_interval,
    paired_difference,
    relative_change,
    relative_change_across_seeds,
    t_quantile,
)

FACTOR_3, FACTOR_4 = (4 / 3) ** 0.5, (5 / 4) ** 0.5
"""How much wider skewness makes the interval over three and over four clusters: √(1 + 1 / clusters)."""


def test_a_constant_has_no_width_and_no_values_have_no_mean():
    assert mean_interval([2.0, 2.0, 2.0])[:3] == (2.0, 2.0, 2.0)
    assert mean_across_seeds([[2.0, 2.0], [2.0, 2.0]])[:3] == (2.0, 2.0, 2.0)
    assert all(np.isnan(mean_interval([np.nan, np.nan])[:3]))
    assert all(np.isnan(mean_interval([])[:3]))


def test_images_of_their_own_give_the_t_interval():
    # mean 3, sum of squares 4 + 1 + 0 + 9 = 14, standard error √(14 / 3 / 4), t(.975; 3) = 3.18245
    half = FACTOR_4 * 3.18245 * (14 / 3 / 4) ** 0.5
    interval = mean_interval([1.0, 2.0, 3.0, 6.0])
    assert interval[:3] == pytest.approx((3, 3 - half, 3 + half), abs=1e-4)
    assert interval[3:] == (pytest.approx(3), 4)


def test_equal_clusters_give_the_t_interval_of_their_means():
    # the means 1.5, 2.5 and 5 have the mean 3, a variance of 3.25 and t(.975; 2) = 4.30265
    half = FACTOR_3 * 4.30265 * (3.25 / 3) ** 0.5
    interval = mean_interval([1.0, 2.0, 2.0, 3.0, 4.0, 6.0], ["a", "a", "b", "b", "c", "c"])
    assert interval == pytest.approx((3, 3 - half, 3 + half, 2, 3), abs=1e-4)
    shuffled = mean_interval([2.0, 4.0, 1.0, 3.0, 6.0, 2.0], ["a", "c", "a", "b", "c", "b"])
    assert shuffled == pytest.approx(interval)


def test_unequal_clusters_agree_with_the_matrices_of_bell_and_mccaffrey():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 6, 23)
    values = rng.normal(size=23) + rng.normal(size=6)[clusters]
    count, errors, same = len(values), values - values.mean(), clusters[:, None] == clusters
    others = same & ~np.eye(count, dtype=bool)
    rho = np.clip(np.outer(errors, errors)[others].mean() / (errors @ errors / count), 0, 1)
    annihilator, variance, weights = np.eye(count) - 1 / count, 0.0, []
    for cluster in range(6):
        rows = clusters == cluster
        eigenvalues, vectors = np.linalg.eigh(annihilator[np.ix_(rows, rows)])
        corrected = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T @ np.ones(rows.sum()) / count
        variance += (corrected @ errors[rows]) ** 2
        weights.append(annihilator[rows].T @ corrected)
    matrix = np.array(weights) @ (np.where(same, rho, 0) + (1 - rho) * np.eye(count)) @ np.array(weights).T
    df = np.trace(matrix) ** 2 / np.trace(matrix @ matrix)
    interval = mean_interval(values, list(clusters))
    assert interval.df == pytest.approx(df)
    assert interval.high - interval.mean == pytest.approx(
        float(t_quantile(df)) * (variance * (1 + 1 / (df + 1))) ** 0.5
    )


def test_two_seeds_by_hand():
    # rows are seeds, columns are images; the mean is 4, those of the seeds are 3 and 5
    values = np.array([[1.0, 3.0, 5.0], [5.0, 5.0, 5.0]])
    # V_seed = 2 / 2; image means 3, 4, 5: V_cluster = 1 / 3; what is left is ±1, 0, ∓1 in each seed:
    # each seed's mean has the variance 1 / 3 by it, divided by S (S − 1) = 2 for their sum: V_both = 1 / 3
    tail_seed, total = 12.7062, 1 + 0
    half = tail_seed * 1 / total**0.5
    assert mean_across_seeds(values)[:3] == pytest.approx((4, 4 - half, 4 + half), abs=1e-3)
    values = np.array([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0]])  # nothing is peculiar to an image in one seed
    across, images = 2 / 2, 4 / 3
    half = (12.7062 * across + FACTOR_3 * 4.30265 * images) / (across + images) ** 0.5
    assert mean_across_seeds(values)[:3] == pytest.approx((4, 4 - half, 4 + half), abs=1e-3)


def test_missing_values_are_left_out_in_pairs():
    before, after = [0.0, 1.0, np.nan, 0.0], [1.0, np.nan, 1.0, 1.0]
    assert paired_difference(before, after)[:3] == (1.0, 1.0, 1.0)
    assert paired_difference(before, after, ["a", "b", "c", "d"]).clusters == 2
    assert mean_interval([1.0, np.nan]).mean == 1.0


def test_pairing_removes_the_difficulty_of_an_image():
    difficulty = np.random.default_rng(3).normal(0, 5, 200)
    before, after = difficulty, difficulty + 0.5
    assert paired_difference(before, after)[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert paired_difference(before, np.random.default_rng(4).permutation(after)).low < 0


def test_near_duplicates_widen_the_interval():
    """308 images that are 44 families of 7 are hardly more than 44 observations."""
    rng = np.random.default_rng(5)
    families = np.repeat(np.arange(44), 7)
    values = (rng.normal(size=44)[families] + rng.normal(size=308) > 0).astype(float)
    by_image, by_family = mean_interval(values), mean_interval(values, list(families))
    assert by_image.mean == pytest.approx(by_family.mean)
    assert (by_image.clusters, by_family.clusters, by_family.df) == (308, 44, pytest.approx(43))
    assert 1.4 < (by_family.high - by_family.low) / (by_image.high - by_image.low) < 2.2
    # copies add nothing: the interval is that of one image of each family
    copied = rng.normal(size=44)
    assert mean_interval(copied[families], list(families))[:3] == pytest.approx(mean_interval(copied)[:3])


def test_a_share_has_the_interval_of_wilson_with_its_effective_number_of_images():
    # one cluster in four has the event: share .25; deviations ±.75, ∓.25: variance of the mean .75 / 12; df = 3
    interval = mean_interval([1.0, 0.0, 0.0, 0.0])
    half = t_quantile(3.0) * (1 + 1 / 4) ** 0.5 * (0.75 / 12) ** 0.5
    for end in (interval.low, interval.high):  # where the distance is t times the standard error at the end itself
        assert abs(0.25 - end) == pytest.approx(half * (end * (1 - end) / (0.25 * 0.75)) ** 0.5)
    assert 0 < interval.low < 0.25 < interval.high < 1
    assert (interval.df, interval.clusters) == (pytest.approx(3), 4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_of_none_or_all_has_a_width(value):
    images = mean_interval([value] * 100)
    clusters = mean_interval([value] * 100, [i // 20 for i in range(100)])
    far = 1 / (1 + 100 / t_quantile(99.0) ** 2)  # Wilson's end for 0 of 100
    assert images[:3] == pytest.approx((0, 0, far) if value == 0 else (1, 1 - far, 1))
    assert clusters.high - clusters.low > images.high - images.low
    assert mean_across_seeds([[value] * 100] * 3)[:3] == images[:3]


def test_differences_of_shares_are_no_shares():
    """All differences are 0 or 1 here, and their interval may lie below 0."""
    before, after = [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    assert paired_difference(before, after).low < 0
    assert paired_difference(before, before)[:3] == (0, 0, 0)


def test_a_single_cluster_says_nothing_about_others():
    interval = mean_interval([0.0, 1.0, 1.0], ["a"] * 3)
    assert interval.mean == pytest.approx(2 / 3)
    assert np.isnan([interval.low, interval.high]).all()
    assert (interval.df, interval.clusters) == (None, 1)
    assert np.isnan(mean_across_seeds([[0.0, 1.0], [1.0, 1.0]], ["a", "a"]).low)


def test_relative_change_by_hand_and_at_zero():
    assert relative_change([0.5, 0.5, 0.5], [0.35, 0.35, 0.35])[:3] == pytest.approx((-0.3, -0.3, -0.3))
    assert all(np.isnan(relative_change([0.0, 0.0], [1.0, 1.0])[:3]))
    # a negative start: up is up
    assert relative_change([-2.0, -2.0], [-1.0, -1.0]).mean == pytest.approx(0.5)
    # the means are 2 and 3, the ratio 1.5; after − 1.5 · before is ∓.5, over the start ∓.25; t(.975; 1) = 12.7062
    change, half = relative_change([1.0, 3.0], [1.0, 5.0]), 1.5**0.5 * 12.7062 * 0.25
    assert change[:3] == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-3)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 values before and 3 after"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        mean_interval([[1, 2]])
    with pytest.raises(ValueError, match="the seeds have 1, 2 values"):
        mean_across_seeds([[1], [1, 2]])
    with pytest.raises(ValueError, match="1 clusters for 2 images"):
        mean_interval([1, 2], ["a"])


def test_seeds_that_differ_widen_the_interval():
    images = np.random.default_rng(7).random(300)
    alike, apart = [images] * 3, [images - 0.3, images, images + 0.3]
    one, two, three = mean_interval(images), mean_across_seeds(alike), mean_across_seeds(apart)
    assert two[:3] == pytest.approx(one[:3])
    assert three.mean == pytest.approx(one.mean)
    assert three.high - three.mean == pytest.approx(4.303 * 0.3 / 3**0.5, rel=0.02)  # t over three seeds
    assert mean_across_seeds([images]) == one
    assert mean_across_seeds([images, np.full(300, np.nan)]) == one


def test_changes_across_seeds_pair_each_with_its_own_start():
    rng = np.random.default_rng(9)
    befores = [rng.random(200) + offset for offset in (0.0, 2.0)]
    afters = [before * 1.5 for before in befores]
    assert relative_change_across_seeds(befores, afters)[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert difference_across_seeds(befores, [b + 1 for b in befores])[:3] == pytest.approx((1, 1, 1))
    befores[0][:50] = np.nan
    assert relative_change_across_seeds(befores, afters).mean == pytest.approx(0.5)


def test_the_text_names_clusters_images_and_seeds():
    assert describe_units(308, 44) == "over 44 clusters (308 images)"
    assert describe_units(308, 44, 3) == "over 44 clusters (308 images), 3 seeds"
    assert describe_units(1, 1) == "over 1 cluster (1 image)"
    assert describe_units(9, None).startswith("over 9 images, each taken as independent because")
