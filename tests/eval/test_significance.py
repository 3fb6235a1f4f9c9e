"""Permutation tests against scipy and by simulation, Holm's correction, and detectable differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rlcap.eval.significance import detectable_difference, holm, permutation_p_value
from rlcap.eval.statistics import Interval, difference_across_seeds


def test_a_permutation_p_value_is_exact_for_few_clusters():
    # 2 of the 8 sign assignments of (1, 2, 3) have an absolute sum of at least 6
    assert permutation_p_value([1.0, 2.0, 3.0]) == 2 / 8
    values = [0.3, -0.1, 0.4, 0.2, 0.25, -0.05, 0.1]
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert permutation_p_value(values) == pytest.approx(expected)


def test_clusters_change_signs_together():
    values = [1.0, 1.0, 1.0, 1.0]
    assert permutation_p_value(values) == 2 / 16
    assert permutation_p_value(values, ["a", "a", "b", "b"]) == 2 / 4
    assert permutation_p_value(values, ["a"] * 4) == 1.0


def test_without_a_difference_p_is_1_and_without_values_unknown():
    assert permutation_p_value([0.0, 0.0]) == 1.0
    assert math.isnan(permutation_p_value([math.nan, math.nan]))
    assert permutation_p_value([math.nan, 1.0]) == 1.0


def test_equal_captioners_are_called_different_in_one_case_of_twenty():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(20), 3)
    found = [
        permutation_p_value(rng.normal(size=20)[clusters] + rng.normal(size=60), clusters, seed=i) for i in range(400)
    ]
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.08


def test_holm_golden():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, math.nan, 0.6])[0] == 1.0
    assert math.isnan(holm([0.9, math.nan, 0.6])[1])
    assert holm([]) == []


def test_a_detectable_difference_is_found_in_four_of_five_cases():
    rng = np.random.default_rng(1)
    start = np.zeros(300)
    typical = stats.zscore(rng.normal(size=300))  # of std 1, as the draws below are on average
    size = detectable_difference(difference_across_seeds([start], [typical]))
    found = [difference_across_seeds([start], [size + rng.normal(size=300)]).low > 0 for _ in range(400)]
    assert 0.74 <= np.mean(found) <= 0.86
    assert detectable_difference(Interval(0.0, -1.0, 1.0, None, 50)) == pytest.approx(1.4294, abs=1e-3)
