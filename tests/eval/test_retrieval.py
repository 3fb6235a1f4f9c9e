"""Retrieval: golden cases, chance level, ties, missing bags."""

import numpy as np
import pytest

from rlcap.eval.metrics.retrieval import hard_bags, random_bags, ranks, recall_at_1, retrieval_metrics, split_bags
from rlcap.types import Sample


def samples(n, near):
    return [
        Sample(str(i), f"{i}.png", distractors={"hard": tuple(str(j) for j in range(n) if j != i)[:near]})
        for i in range(n)
    ]


def test_identical_vectors_find_themselves():
    vectors = np.eye(12)
    assert recall_at_1(vectors, vectors, random_bags(12, 5)).tolist() == [1.0] * 12


@pytest.mark.parametrize(("size", "chance"), [(3, 1 / 3), (5, 0.2), (7, 1 / 7)])
def test_random_vectors_find_themselves_by_chance(size, chance):
    rng = np.random.default_rng(0)
    text, image = rng.normal(size=(4000, 16)), rng.normal(size=(4000, 16))
    assert recall_at_1(text, image, random_bags(4000, size)).mean() == pytest.approx(chance, abs=0.025)


def test_a_tie_is_no_hit_and_an_empty_caption_is_last():
    image = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    text = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    bags = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    assert ranks(text, image, bags).tolist() == [2.0, 3.0, 1.0]
    assert recall_at_1(text, image, bags).tolist() == [0.0, 0.0, 1.0]


def test_random_bags_hold_themselves_first_and_nobody_twice():
    bags = random_bags(30, 10, seed=3)
    assert all(bag[0] == i and len(set(bag)) == 10 and max(bag) < 30 for i, bag in enumerate(bags))
    assert bags == random_bags(30, 10, seed=3) != random_bags(30, 10, seed=4)
    assert random_bags(4, 100)[2][0] == 2
    assert sorted(random_bags(4, 100)[2]) == [0, 1, 2, 3]
    assert random_bags(1, 100) == [(0,)]


def test_sizes_without_enough_distractors_are_skipped():
    known = samples(10, near=4)
    assert hard_bags(known, 5)[7] == (7, 0, 1, 2, 3)
    assert set(split_bags(known)) == {"bag3", "bag5", "rd10"}
    known[3] = Sample("3", "3.png", distractors={"hard": ("0", "elsewhere", "1")})
    values = retrieval_metrics(np.eye(10), np.eye(10), split_bags(known))["bag5_recall_at_1"]
    assert np.isnan(values[3])
    assert np.nansum(values) == 9


def test_the_name_rd100_is_kept_for_a_hundred_images():
    assert "rd100" in split_bags(samples(100, 0))
    assert "rd100" in split_bags(samples(101, 0))
    assert "rd99" in split_bags(samples(99, 0))


def test_captions_of_the_first_images_are_ranked_among_all():
    found = retrieval_metrics(np.eye(10)[:3], np.eye(10), split_bags(samples(10, 6)))
    assert found["bag7_mean_rank"].tolist() == [1.0, 1.0, 1.0]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="2 bags for 3 captions"):
        recall_at_1(np.eye(3), np.eye(3), [(0, 1), (1, 2)])
    with pytest.raises(ValueError, match="one width"):
        recall_at_1(np.eye(3), np.eye(4), [(0, 1)] * 3)
