"""CLAIR: the score in the reply, and replies that have none."""

import pytest
from fake_backends import FakeBackend, make_reward

from rlcap.errors import ReplyFormatError
from rlcap.lab.oracles.grader import OracleLikelihood
from rlcap.lab.world.scene import Scene, Thing
from rlcap.rewards.clair import Clair, parse_likelihood
from rlcap.types import RewardBatch, Sample


class Says(FakeBackend):
    name, accepts_images = "says", True

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        return self.reply


def judged(reply, caption="A ball.", references=("a ball", "the ball"), **options):
    engine = Says(reply)
    reward = make_reward(Clair, engine, cache=":memory:", backoff=0, **options)
    return reward.score(RewardBatch([caption], [Sample("a", "a.jpg", references)]))[0], engine.asked


def tagged(reply):
    return f"<verdict>{reply}</verdict>"


def test_golden():
    assert parse_likelihood(tagged('{"score": 85, "reason": "both a ball"}')) == (0.85, "both a ball")
    assert parse_likelihood(tagged('{"reason": "x", "score": 0.85}'))[0] == 0.85
    assert parse_likelihood(tagged('{"score": 0.5, "reason": "x"}'))[0] == 0.5  # below 1: a share
    assert parse_likelihood(tagged('{"score": 1, "reason": "x"}'))[0] == 0.01
    assert parse_likelihood(tagged('{"score": 0, "reason": "x"}'))[0] == 0
    assert parse_likelihood("<think>{}</think>\n" + tagged('```json\n{"score": 100, "reason": "x"}\n```'))[0] == 1
    score, asked = judged(tagged('{"score": 85, "reason": "both a ball"}'))
    assert (score.value, score.note) == (0.85, "both a ball")
    assert isinstance(asked[0], str)
    assert "- a ball\n- the ball" in asked[0]


def test_a_verdict_without_tags_is_none():
    """For example the reply of a judge that repeats the caption; delimited text has no tags."""
    with pytest.raises(ReplyFormatError):
        parse_likelihood('{"score": 100, "reason": "identical"}')
    assert judged('{"score": 100, "reason": "identical"}')[0].abstained


@pytest.mark.parametrize(
    "reply",
    [
        "", "85", "Score: 85", '{"score": 85}', '{"score": "85", "reason": "x"}', '{"score": 101, "reason": "x"}',
        '{"score": -1, "reason": "x"}', '{"score": NaN, "reason": "x"}', '{"score": true, "reason": "x"}',
        '{"score": 85, "reason": null}', '{"score": 85, "reason": "x", "more": 1}', 'Sure! {"score": 85, "reason": "x"}',
        '[{"score": 85, "reason": "x"}]', '<think>no</think>{"score": 85, "reason": "x"}', '[["score", 85], ["reason", "x"]]', '{"score": 0, "reason": "x", "score": 100}', '{"score": 85, "reason": "x"', '{"score": ' + "9" * 5000 + ', "reason": "x"}',
        '{"score": 1e999, "reason": "x"}', '{"score": ' + "[" * 100_000,
    ],
)  # fmt: skip
def test_anything_else_abstains(reply):
    with pytest.raises(ReplyFormatError):
        parse_likelihood(tagged(reply))
    score, asked = judged(tagged(reply))
    assert score.abstained
    assert len(asked) in (2, 4)  # asked again where the reply can't be read or is empty


def test_silence_and_no_references():
    score, asked = judged("x", caption=" ")
    assert (score.value, asked) == (0.0, [])
    score, asked = judged("x", references=("", " "))
    assert score.reason.startswith("no reference")
    assert asked == []


def test_the_lab_finds_its_own_image_likelier():
    scene = Scene(
        "sand", (Thing("ball", "red", "small", "plain", "left"), Thing("boat", "white", "large", "striped", "top"))
    )
    sample = Sample("a", "", ("a red ball.",), meta={"scene": scene.to_json()})
    captions = [
        "there is a red ball. there is a striped boat. the background is sand.",
        "there is a red ball.",
        "there is a tree.",
    ]
    values = [
        score.value
        for score in make_reward(Clair, OracleLikelihood(), cache=":memory:").score(RewardBatch(captions, [sample] * 3))
    ]
    assert values[0] > values[1] > values[2] == 0
