"""Rubric: the weighted share, the form of the list, and malformed rubrics."""

import random

import pytest
from fake_backends import FakeBackend, make_reward

from rlcap.config.imports import build
from rlcap.errors import InputError, ReplyFormatError, RubricError
from rlcap.lab.oracles.rubric import FAITHFUL, OracleRubric, rubric
from rlcap.lab.world.language import describe_scene
from rlcap.lab.world.scene import sample_scene
from rlcap.rewards.rubric import Rubric
from rlcap.rewards.rubric.parsing import (
    Criterion,
    CriterionResult,
    format_criteria,
    parse_criteria,
    parse_rubric,
    weighted_share,
)
from rlcap.types import RewardBatch, Sample

ROWS = [
    {"criterion": "Says that the ball is red.", "weight": 3},
    {"criterion": "Counts two  dogs.", "weight": 2},
    {"criterion": "Names the sky."},
]
LIST = "<criteria>\n1. it does | yes\n2. one dog | or two | No\n3.  | no.\n</criteria>"


class Says(FakeBackend):
    name, accepts_images = "says", True

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        return self.reply


def judged(reply, caption="A ball.", rows=ROWS, **options):
    engine = Says(reply)
    reward = make_reward(Rubric, engine, cache=":memory:", backoff=0, **options)
    meta = {} if rows is None else {"rubric": rows}
    return reward.score(RewardBatch([caption], [Sample("x7", "a.jpg", ("a ref",), meta=meta)]))[0], engine.asked


def test_golden():
    three = [Criterion("a", 3), Criterion("b", 2), Criterion("c", 1)]
    yes, no = CriterionResult("", True), CriterionResult("", False)
    assert weighted_share(three, [yes, no, yes]) == pytest.approx(4 / 6)
    assert weighted_share(three, [no] * 3) == 0
    assert weighted_share(three, [yes] * 3) == 1
    score, asked = judged(LIST)
    assert score.value == pytest.approx(3 / 6)
    assert parse_criteria(score.note, 3)[0].met
    assert "1. Says that the ball is red.\n2. Counts two dogs.\n3. Names the sky." in asked[0]
    assert "a ref" not in asked[0]


def test_the_list_is_read_and_written():
    found = parse_criteria(LIST, 3)
    assert found == [
        CriterionResult("it does", True),
        CriterionResult("one dog | or two", False),
        CriterionResult("", False),
    ]
    assert parse_criteria(format_criteria(found), 3) == found
    assert parse_criteria(f"<think>hm</think>\n```\n{LIST}\n```", 3) == found


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "no <criteria> section"),
        (f"Sure! {LIST}", "text around"),
        (LIST + LIST, "text around"),
        (LIST.replace("3.  | no.\n", ""), "2 answers to 3 criteria"),
        (LIST.replace("2. one", "3. one"), "a line `2. reason | yes`"),
        (LIST.replace("| yes", "| maybe"), "a line `1. reason | yes`"),
        (LIST.replace("it does | yes", "yes"), "a line `1. reason | yes`"),
    ],
)
def test_anything_else_is_no_list(reply, message):
    with pytest.raises(ReplyFormatError, match=message):
        parse_criteria(reply, 3)
    assert judged(reply)[0].abstained


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("red", r"""sample 'x7': meta\["rubric"\] must be a list, got 'red'"""),
        ([ROWS[0], "red"], r"""meta\["rubric"\]\[1\] is 'red'; write {criterion: a sentence, weight: 1 to 3}"""),
        ([{"criterion": " "}], "write {criterion"),
        ([{"criterion": "a", "weight": 4}], "a number from 1 to 3, got 4"),
        ([{"criterion": "a", "weight": 0}], "got 0"),
        ([{"criterion": "a", "weight": "3"}], "got '3'"),
        ([{"criterion": "a", "weight": float("nan")}], "got nan"),
        ([{"criterion": "a", "weight": True}], "got True"),
    ],
)
def test_a_malformed_rubric_is_named_with_its_sample(rows, message):
    with pytest.raises(RubricError, match=message):
        judged(LIST, rows=rows)


def test_an_empty_rubric_or_caption_sends_no_request():
    for rows in (None, []):
        score, asked = judged(LIST, rows=rows)
        assert score.reason == 'no criteria for this image in meta["rubric"]'
        assert asked == []
    score, asked = judged(LIST, caption=" \n")
    assert (score.value, asked) == (0.0, [])
    assert parse_rubric(Sample("a", "")) == []


def test_it_runs_on_the_lab():
    reward = build(
        Rubric,
        {
            "judge": {"backend": "rlcap.lab.oracles.rubric:OracleRubric", "cache": ":memory:"},
            "rubric": "rlcap.lab.oracles.rubric:of_sample",
        },
    )
    rng = random.Random(1)
    scenes = [sample_scene(rng) for _ in range(6)]
    samples = [Sample(str(i), "", meta={"scene": scene.to_json()}) for i, scene in enumerate(scenes)]
    own = [describe_scene(scene, rng) for scene in scenes]
    assert [score.value for score in reward.score(RewardBatch(own, samples))] == [1.0] * 6
    assert all(score.value < 0.5 for score in reward.score(RewardBatch([*own[1:], own[0]], samples)))
    assert rubric(scenes[0]) == rubric(scenes[0])
    assert rubric(scenes[0])[-1] == {"criterion": FAITHFUL, "weight": 3}
    with pytest.raises(InputError, match="'b' has no scene"):
        reward.score(RewardBatch(["a ball."], [Sample("b", "")]))
    assert OracleRubric.reads_sample
