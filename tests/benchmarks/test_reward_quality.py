"""The pure parts of benchmarks/reward_quality.py: foils, and the statistics in its table."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from caption_foils import SETS, foils
from quality_statistics import auc, bootstrap, clustered, group_agreement, group_gain, kendall_tau_c, wins

NAN = float("nan")


def test_a_foil_changes_one_word_to_one_that_nobody_says():
    caption = "Two black dogs are running on the beach"
    references = ["A pair of dogs run on sand", "Dogs chase a red ball near the sea"]
    found = {foil.kind: foil for foil in foils(caption, references)}
    assert list(found) == ["object", "attribute", "count", "place", "relation", "action"]
    for foil in found.values():
        own, new = caption.lower().split(), foil.text.lower().split()
        assert [(a, b) for a, b in zip(own, new, strict=True) if a != b] == [(foil.was, foil.now)]
        assert foil.now not in " ".join(references).lower().split()
    assert found["object"].now.endswith(("s", "men", "women", "children", "people"))  # a plural stays a plural
    assert found["action"].now.endswith("ing")
    assert found["place"].now not in ("sand", "shore", "ocean", "sea", "waves")
    assert found["attribute"].now != "red"
    assert foils(caption, references) == foils(caption, references)


def test_captions_without_such_words_have_no_foils_and_sets_are_disjoint():
    assert foils("Hello there", ["Nothing of the sort"]) == []
    for kind, groups in SETS.items():
        words = " ".join(groups).split()
        assert len(words) == len(set(words)), kind


def test_wins_count_ties_and_missing_values_half():
    assert wins(np.array([2.0, 1, 0, NAN]), np.array([1.0, 1, 1, 1])).tolist() == [1, 0.5, 0, 0.5]


def test_auc_golden():
    assert auc(np.array([1.0, 2, NAN]), np.array([2.0, 3])) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auc(np.array([]), np.array([1.0])))


def test_kendall_tau_c_golden():
    # levels 1, 1, 2: concordant 2, discordant 0; 2 · 2 / (9 · ½)
    assert kendall_tau_c(np.array([0.1, 0.2, 0.3]), np.array([1, 1, 2])) == pytest.approx(4 / 4.5)
    assert kendall_tau_c(np.array([0.3, 0.2, 0.1]), np.array([1, 1, 2])) == pytest.approx(-4 / 4.5)
    assert kendall_tau_c(np.array([1.0, 1, 1]), np.array([1, 2, 3])) == 0


def test_kendall_tau_c_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    values, ratings = rng.integers(0, 9, 200).astype(float), rng.integers(1, 5, 200)
    assert kendall_tau_c(values, ratings) == pytest.approx(stats.kendalltau(values, ratings, variant="c").statistic)


def test_group_agreement_leaves_out_equal_truths():
    agreed, pairs = group_agreement(np.array([[1.0, 2, 2], [NAN, 1, 0]]), np.array([[0.0, 1, 1], [0, 1, 2]]))
    assert agreed.tolist() == [2, 1]  # second: two pairs with a missing value, half each, and one in the wrong order
    assert pairs.tolist() == [2, 3]


def test_bootstrap_and_clusters():
    values = np.array([0.0, 1, 1, 0])
    found = bootstrap(lambda drawn: values[drawn].mean(), 4)
    assert found.mean == 0.5
    assert 0 <= found.low < 0.5 < found.high <= 1
    assert np.isnan(bootstrap(lambda drawn: float("nan"), 4).mean)
    assert [rows.tolist() for rows in clustered(["a", "b", "a"])] == [[0, 2], [1]]


def test_group_gain_is_the_difference_of_the_shares():
    truth = np.array([[0.0, 1, 2]] * 6)
    right, wrong, flat = (np.array([row] * 6) for row in ([0.0, 1, 2], [2.0, 1, 0], [1.0, 1, 1]))
    assert group_gain(right, wrong, truth).mean == 1
    assert group_gain(right, flat, truth).mean == 0.5
    assert group_gain(wrong, wrong, truth)[:3] == (0, 0, 0)
    both = group_gain(np.concatenate([right, wrong]), np.concatenate([wrong, wrong]), np.concatenate([truth, truth]),
                      [np.arange(2 * len(truth))])  # fmt: skip
    assert both[:3] == (0.5, 0.5, 0.5)  # a single cluster is drawn whole
