"""Several judges give one number, or an abstention where they disagree."""

import pytest
from fake_backends import make_reward
from fake_models import CountingJudge

from rlcap.errors import ConfigError
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.rewards.critique import Critique
from rlcap.rewards.ensemble import Ensemble, majority
from rlcap.types import RewardBatch, Sample, Score


class Fixed(Reward):
    """Returns the caption's number for this member: with "0.1 0.5 x" the first gives .1 and the third abstains."""

    name, range = "fixed", (0.0, 1.0)

    def __init__(self, place):
        self.place = place

    def score(self, batch):
        cells = [caption.split()[self.place] for caption in batch.captions]
        return RewardOutput(
            [Score.abstain("no cell") if cell == "x" else Score(float(cell), note=f"said {cell}") for cell in cells]
        )


def rows(*captions):
    return RewardBatch(captions, [Sample("a", "", references=("a ball",))] * len(captions))


def panel(*captions, members=3, **options):
    return Ensemble({f"m{i}": Fixed(i) for i in range(members)}, **options).score(rows(*captions))


def test_golden():
    assert [s.value for s in panel("0.1 0.5 0.9", "0 0 1")] == [0.5, 0.0]
    assert [s.value for s in panel("0.1 0.5 0.9", "0 0 1", how="mean")] == pytest.approx([0.5, 1 / 3])
    assert [s.value for s in panel("1 1 0", "0.5 1 1", how="majority")] == [1.0, 1.0]
    assert majority([1, 1, 0]) == 1
    assert majority([0.2, 0.3, 0.9], 0.1) == pytest.approx(0.25)
    assert majority([0.0, 0.1, 0.2], 0.1) == pytest.approx(0.05)
    assert majority([0, 1]) is majority([0, 0, 1, 1]) is majority([0.1, 0.5, 0.9], 0.3) is None
    assert majority([0.4]) == 0.4


def test_wide_disagreement_abstains():
    near, far = panel("0.5 0.5 0.7", "0.5 0.5 0.8", spread=0.2)
    assert near.value == 0.5
    assert far.reason == "disagree by more than 0.2: m0 0.5, m1 0.5, m2 0.8"
    assert far.note == "m0: said 0.5\n\nm1: said 0.5\n\nm2: said 0.8"
    assert panel("0.1 0.5 0.9", how="majority")[0].reason.startswith("disagree by more than 0: ")
    assert panel("0.5 0.5 0.5", spread=0.0)[0].value == 0.5


def test_all_must_have_judged_unless_a_quorum_says_less():
    (found,) = panel("0.1 x 0.9")
    assert found.reason == "2 of 3 members judged, 3 needed (m1: no cell)"
    assert panel("0.1 x 0.9", quorum=2)[0].value == 0.5
    assert panel("x x 0.9", quorum=2)[0].abstained
    assert panel("x x x", quorum=1)[0].abstained


def test_metrics_say_who_disagreed():
    reward = Ensemble({"a": Fixed(0), "b": Fixed(1)}, spread=0.5, quorum=1)
    output = reward.score(rows("0 1", "1 1", "x 1", "0.5 0.5"))
    assert output.metrics == {
        "disagreed": 0.25, "a/abstain_rate": 0.25, "b/abstain_rate": 0.0, "a/mean": 0.5, "b/mean": 0.875,
    }  # fmt: skip
    assert list(reward.score(rows())) == []


def test_in_a_mix_from_yaml_with_the_members_judges_and_budgets():
    name = "panel"
    member = {
        "reward": "rlcap.rewards.critique:Critique",
        "params": {"judge": {"backend": CountingJudge(), "cache": ":memory:"}},
    }
    entry = {
        "reward": "rlcap.rewards.ensemble:Ensemble",
        "params": {"members": {"one": member, "two": member}, "how": "mean"},
    }
    mix = RewardMix.from_config({name: entry})
    found = mix.score(rows("a red ball", "a ball"))
    assert found.values.flatten().tolist() == pytest.approx([0.3, 0.2])
    assert found.metrics[f"{name}/calls"] == 4
    assert found.metrics[f"{name}/one/mean"] == 0.25
    assert len(mix.state_dict()["budgets"][name]) == 2
    assert mix.reward_ranges == (2.0,)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"members": {"a": Fixed(0)}}, "at least two members, got 1"),
        ({"members": {"a": Fixed(0), "b": make_reward(Critique, CountingJudge(), cache=":memory:")}}, "share one range, got"),
        ({"members": {"a": Fixed(0), "b": 3}}, r"members\.b must be a mapping with `reward: module:Class`, got 3"),
        ({"members": {"a": Fixed(0), "b": {"reward": "rlcap.rewards.critique:Critiqe"}}}, r"members\.b: .*did you mean 'Critique'"),
        ({"members": {"a": Fixed(0), "b": {"reward": "rlcap.rewards.length:Length", "weight": 1}}}, r"members\.b: unknown key 'weight'"),
        ({"members": {"a": Fixed(0), "b": {"reward": "rlcap.rewards.critique:Critique"}}}, "needs the parameter 'judge'"),
        ({"how": "max"}, "how must be mean, median or majority"),
        ({"spread": -1.0}, "spread at least 0"),
        ({"quorum": 3}, "quorum must be from 1 to 2, the number of members, got 3"),
    ],
)  # fmt: skip
def test_mistakes_are_named(params, message):
    with pytest.raises(ConfigError, match=message):
        Ensemble(**{"members": {"a": Fixed(0), "b": Fixed(1)}, **params})


def test_a_score_depends_on_its_row_alone():
    captions = ["0.1 0.5 0.9", "x 0.5 0.5", "0 0 1"]
    reward = Ensemble({f"m{i}": Fixed(i) for i in range(3)}, spread=0.9)
    together = reward.score(rows(*captions))
    assert together[::-1] == list(reward.score(rows(*captions[::-1])))
    assert list(together) == [reward.score(rows(caption))[0] for caption in captions]
    assert RewardTerm(reward).weight == 1.0
