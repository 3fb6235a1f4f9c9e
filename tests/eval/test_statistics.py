"""Bootstrap intervals: golden cases, coverage by simulation, pairing, NaN, seeds."""

import numpy as np
import pytest

from rlcap.eval.statistics import (
    bootstrap_mean,
    difference_across_seeds,
    mean_across_seeds,
    paired_difference,
    relative_change,
    relative_change_across_seeds,
)


def test_a_constant_has_no_width_and_no_values_have_no_mean():
    assert bootstrap_mean([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert all(np.isnan(bootstrap_mean([np.nan, np.nan])))
    assert all(np.isnan(bootstrap_mean([])))


def test_the_interval_is_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(3, 2, 900)
    mean, low, high = bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / 30
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_ninety_five_percent_of_intervals_hold_the_truth():
    rng = np.random.default_rng(2)
    inside = 0
    for i in range(300):
        _, low, high = bootstrap_mean(rng.random(80), seed=i, n=400)
        inside += low <= 0.5 <= high
    assert 0.91 <= inside / 300 <= 0.98


def test_missing_values_are_left_out_in_pairs():
    before, after = [0.0, 1.0, np.nan, 0.0], [1.0, np.nan, 1.0, 1.0]
    assert paired_difference(before, after) == (1.0, 1.0, 1.0)
    assert bootstrap_mean([1.0, np.nan]).mean == 1.0


def test_pairing_removes_the_difficulty_of_an_image():
    difficulty = np.random.default_rng(3).normal(0, 5, 200)
    before, after = difficulty, difficulty + 0.5
    assert paired_difference(before, after) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_difference(before, np.random.default_rng(4).permutation(after)).low < 0


def test_relative_change_by_hand_and_at_zero():
    change = relative_change([0.5, 0.5, 0.5], [0.35, 0.35, 0.35])
    assert change == pytest.approx((-0.3, -0.3, -0.3))
    assert all(np.isnan(relative_change([0.0, 0.0], [1.0, 1.0])))
    # a negative start: up is up
    assert relative_change([-2.0, -2.0], [-1.0, -1.0]).mean == pytest.approx(0.5)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 values before and 3 after"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        bootstrap_mean([[1, 2]])


def test_same_seed_same_interval_and_the_global_generator_is_untouched():
    values = np.random.default_rng(5).random(50)
    state = np.random.get_state()[1].copy()
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)
    assert (np.random.get_state()[1] == state).all()


def test_a_large_data_set_is_resampled_in_pieces():
    values = np.random.default_rng(6).random(30_000)
    mean, low, high = bootstrap_mean(values, n=800)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 30_000**0.5, rel=0.15)
    assert low < mean < high


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(7)
    images = rng.random(300)
    alike, apart = [images] * 3, [images - 0.3, images, images + 0.3]
    one, two, three = bootstrap_mean(images), mean_across_seeds(alike), mean_across_seeds(apart)
    assert (two.mean, three.mean) == pytest.approx((one.mean, one.mean))
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)
    assert three.high - three.low > 3 * (one.high - one.low)
    assert three.high == pytest.approx(one.mean + 0.3, abs=0.08)


def test_seeds_may_have_images_of_their_own_and_one_seed_is_a_plain_bootstrap():
    rng = np.random.default_rng(8)
    result = mean_across_seeds([rng.random(100), rng.random(140)])
    assert result.low < 0.5 < result.high
    values = rng.random(60)
    assert mean_across_seeds([values]) == pytest.approx(bootstrap_mean(values))


def test_changes_across_seeds_pair_each_with_its_own_start():
    rng = np.random.default_rng(9)
    befores = [rng.random(200) + offset for offset in (0.0, 2.0)]
    afters = [before * 1.5 for before in befores]
    assert relative_change_across_seeds(befores, afters) == pytest.approx((0.5, 0.5, 0.5))
    assert difference_across_seeds(befores, [b + 1 for b in befores]) == pytest.approx((1, 1, 1))
    befores[0][:50] = np.nan
    assert relative_change_across_seeds(befores, afters).mean == pytest.approx(0.5)
