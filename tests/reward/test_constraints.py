"""Constrained terms: the multiplier rises while a target is missed, falls while there is room, and survives a checkpoint."""

from __future__ import annotations

import math

import pytest
import torch

from rlcap.algo.multipliers import update_multiplier
from rlcap.errors import ConfigError
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm, check_mix
from rlcap.types import Score


class Words(Reward):
    name, range = "words", (-1.0, 1.0)

    def score(self, batch):
        return RewardOutput([Score(0.0) for _ in batch.captions])


def test_golden_values():
    assert update_multiplier(1.0, 0.2, 0.3, 0.2, 0.1, 10.0) == pytest.approx(1.05)
    assert update_multiplier(1.0, 0.4, 0.3, 0.2, 0.1, 10.0) == pytest.approx(0.95)
    assert update_multiplier(0.01, 9.0, 0.0, 1.0, 0.1, 10.0) == 0.0
    assert update_multiplier(9.99, -9.0, 0.0, 1.0, 0.1, 10.0) == 10.0


@pytest.mark.parametrize(("mean", "std"), [(math.nan, 1.0), (0.0, math.nan), (0.0, 0.0)])
def test_nothing_judged_changes_nothing(mean, std):
    assert update_multiplier(0.7, mean, 1.0, std, 0.1, 10.0) == 0.7


def mix(target, weight=1.0):
    return RewardMix({"words": RewardTerm(Words(), weight, target=target), "free": RewardTerm(Words(), 2.0)})


def observe(reward_mix, *rounds):
    for values in rounds:
        reward_mix.observe_round(torch.tensor([[value, value] for value in values]))
    return reward_mix


def test_the_weight_of_a_constrained_term_follows_its_target_and_others_stay():
    missed = observe(mix(0.5), [0.0, 0.2], [0.0, 0.2])
    met = observe(mix(0.0), [0.4, 0.6], [0.4, 0.6])
    assert missed.weights[0] > 1.0 > met.weights[0]
    assert missed.weights[1] == met.weights[1] == 2.0


def test_start_is_the_mean_of_the_first_round():
    reward_mix = observe(mix("start"), [0.2, 0.4])
    assert reward_mix.constraints.metrics() == {"words/multiplier": 1.0, "words/target": pytest.approx(0.3)}
    observe(reward_mix, [-0.3, -0.1])
    assert reward_mix.weights[0] > 1.0
    assert reward_mix.constraints.metrics()["words/target"] == pytest.approx(0.3)


def test_a_resumed_run_continues_with_the_same_multiplier():
    straight = observe(mix("start"), [0.2, 0.4], [0.0, 0.1], [0.1, 0.3])
    resumed = mix("start")
    resumed.load_state_dict(observe(mix("start"), [0.2, 0.4], [0.0, 0.1]).state_dict())
    assert observe(resumed, [0.1, 0.3]).weights == straight.weights


def test_a_game_of_two_terms_ends_where_the_constraint_is_met():
    """A policy with one number x earns x from the goal and −x from the constraint, and follows the weighted sum."""
    x, seen, reward_mix = (
        0.0,
        [],
        RewardMix({"words": RewardTerm(Words(), 0.0, target=-0.3), "goal": RewardTerm(Words(), 1.0)}),
    )
    for _ in range(2000):
        constraint, goal = reward_mix.weights
        x = min(1.0, max(0.0, x + 0.01 * (goal - constraint)))
        reward_mix.observe_round(torch.tensor([[-x + noise, x] for noise in (-0.5, 0.5)]))
        seen.append(x)
    # Ascent and descent circle around the solution, which is the mean of their path.
    assert sum(seen[1000:]) / 1000 == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("target", "message"),
    [(2.0, "never be met"), (math.nan, "number or start"), ("begin", "number or start"), (True, "number or start")],
)
def test_targets_that_mean_nothing_are_refused(target, message):
    with pytest.raises(ConfigError, match=message):
        RewardTerm(Words(), 1.0, target=target)


def test_a_target_in_a_configuration_is_checked_without_a_model():
    with pytest.raises(ConfigError, match=r"mix.repetition.*0.5.*\[-1, 0\]"):
        check_mix({"repetition": {"reward": "repetition", "target": 0.5}}, ())
    check_mix({"repetition": {"reward": "repetition", "target": "start"}}, ())


def test_the_start_of_a_run_names_the_targets():
    assert "words to at least 0.5 (multiplier begins at 1), free × 2" in mix(0.5).describe()
