"""The lab's oracle grader: it grades captions by the scene that it sees, which may contain errors."""

import random

import pytest
from fake_backends import make_reward

from rlcap.lab.oracles.grader import OracleGrader
from rlcap.lab.source import load_split
from rlcap.lab.truth import true_caption
from rlcap.lab.world.scene import scene_of
from rlcap.rewards.critique import Critique
from rlcap.types import RewardBatch


@pytest.fixture(scope="module")
def samples():
    return load_split("test", 24)


def complete_captions(samples):
    """Return a complete true caption of each scene."""
    return [true_caption(scene_of(sample), random.Random(0), 500) for sample in samples]


def grades(samples, misreads):
    reward = make_reward(Critique, OracleGrader(misreads), penalty=0.0, cache=":memory:")
    return [score.value for score in reward.score(RewardBatch(complete_captions(samples), samples))]


def test_who_sees_everything_finds_a_true_caption_true(samples):
    reward = make_reward(Critique, OracleGrader(), cache=":memory:")
    scores = reward.score(RewardBatch(complete_captions(samples), samples))
    assert all("nothing it says is wrong" in score.note for score in scores)


def test_more_misreading_lowers_the_grade_of_the_truth(samples):
    means = [sum(grades(samples, share)) / len(samples) for share in (0.0, 0.1, 0.2, 0.5)]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[1] + 0.03


def test_misreading_of_an_image_is_repeatable(samples):
    assert grades(samples, 0.2) == grades(list(samples), 0.2)
    assert grades(samples[:4], 0.2) == grades(samples, 0.2)[:4]


def test_its_eyes_are_part_of_its_name(samples):
    assert OracleGrader().name == "oracle-grader-1"
    assert len({OracleGrader(share).name for share in (0.0, 0.1, 0.2)}) == 3


def test_misreads_must_be_a_share():
    with pytest.raises(ValueError, match=r"misreads is a share and must lie in \[0, 1\], got 20"):
        OracleGrader(20)
