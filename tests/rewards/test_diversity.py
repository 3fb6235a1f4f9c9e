"""Diversity depends on the captions of a group, and on no others."""

import random

import pytest

from rlcap.rewards.diversity import Diversity, diversity
from rlcap.types import RewardBatch, Sample


def judge(rows):
    return Diversity().score(RewardBatch([caption for _, caption in rows], [Sample(id, f"{id}.png") for id, _ in rows]))


def test_golden_values():
    assert diversity(["a dog", "a dog", "a dog"]) == [0, 0, 0]
    assert diversity(["a dog", "two cats"]) == [1, 1]
    # {a, dog, a dog} and {a, cat, a cat} share one n-gram of five
    assert diversity(["a dog", "a cat"]) == pytest.approx([0.8, 0.8])
    assert diversity(["", "a cat"]) == [0, 1]
    assert diversity(["a dog", "a cat"], orders=(1,)) == pytest.approx([2 / 3, 2 / 3])


def test_a_group_knows_nothing_of_others_and_of_order():
    rows = [("a", "a dog"), ("a", "a cat"), ("b", "a dog"), ("b", "a bus"), ("a", "a dog here"), ("c", "alone")]
    whole = judge(rows)
    assert whole[5].abstained
    order = list(range(6))
    random.Random(1).shuffle(order)
    assert [s.value for s in judge([rows[i] for i in order])] == pytest.approx(
        [whole[i].value for i in order], nan_ok=True
    )
    assert [s.value for s in judge([row for row in rows if row[0] == "b"])] == [whole[2].value, whole[3].value]


def test_orders_that_cannot_be():
    with pytest.raises(ValueError, match="at least 1"):
        Diversity(orders=())
