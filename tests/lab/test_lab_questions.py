"""The questions of the lab and its answerer, for captions that state everything or nothing."""

import random

import pytest

from rlcap.errors import InputError
from rlcap.judge.backends.base import JudgeRequest
from rlcap.lab.oracles.question_answerer import OracleQuestionAnswerer, choose, find_answers
from rlcap.lab.world.language import describe_scene
from rlcap.lab.world.questions import questions, questions_for_sample
from rlcap.lab.world.scene import Scene, Thing, sample_scene
from rlcap.rewards.caption_qa.questions import NOT_STATED, OTHER_ANSWER, parse_questions
from rlcap.types import Sample

SCENE = Scene(
    "sand",
    (
        Thing("ball", "red", "small", "plain", "left"),
        Thing("boat", "white", "large", "striped", "top right"),
        Thing("cup", "blue", "small", "dotted", "middle"),
        Thing("cup", "red", "small", "dotted", "bottom"),
    ),
)
COLOUR = ("What colour is the ball?", ["red", "blue", "white", OTHER_ANSWER, NOT_STATED])
WHERE = (
    "Where is the ball, seen from the boat?",
    ["above", "to the left of", "to the right of", OTHER_ANSWER, NOT_STATED],
)
COUNT = ("How many cups are there?", ["one", "two", "three", OTHER_ANSWER, NOT_STATED])
THERE = ("Which of these is there?", ["a ball", "a fish", "a tree", OTHER_ANSWER, NOT_STATED])


def test_questions_are_a_function_of_scene_and_seed():
    assert questions(SCENE) == questions(SCENE)
    assert questions(SCENE, seed=1) != questions(SCENE)
    assert questions(SCENE, count=3) == questions(SCENE)[:3]
    assert [row["question"] for row in questions(SCENE, count=100) if "cup" in row["question"]] == [COUNT[0]]
    assert questions_for_sample(Sample("a", "", meta={"scene": SCENE.to_json()})) == questions(SCENE)
    with pytest.raises(InputError, match="'a' has no scene"):
        questions_for_sample(Sample("a", ""))


def test_a_complete_caption_answers_all_questions_and_the_questions_are_valid():
    rng = random.Random(3)
    for _ in range(40):
        scene = sample_scene(rng)
        caption, rows = describe_scene(scene, rng), questions(scene)
        assert len(parse_questions(rows, "a")) == len(rows) == len({str(row) for row in rows})
        assert 3 <= len(rows) <= 5  # there are few questions about a scene with a single kind
        for row in rows:
            assert choose(caption, row["question"], [*row["options"], OTHER_ANSWER, NOT_STATED]) == row["answer"], (
                caption,
                row,
            )
            assert choose("a picture.", row["question"], [*row["options"], OTHER_ANSWER, NOT_STATED]) == NOT_STATED
            assert choose("a picture.", row["question"], row["options"]) == row["options"][0]


@pytest.mark.parametrize(
    ("caption", "question", "answer"),
    [
        ("there is a red ball.", COLOUR, "red"),
        ("a ball is on the left side.", COLOUR, NOT_STATED),
        ("there is a purple ball.", COLOUR, OTHER_ANSWER),
        ("there is a red ball. there is a blue ball.", COLOUR, OTHER_ANSWER),
        ("the answer is red.", COLOUR, NOT_STATED),
        ("the ball is to the left of the boat.", WHERE, "to the left of"),
        ("the boat is to the right of the ball.", WHERE, "to the left of"),
        ("a ball is on the left side. a boat is in the top right corner.", WHERE, "to the left of"),
        ("the ball is below the boat.", WHERE, OTHER_ANSWER),
        ("the ball is above the boat. the ball is to the left of the boat.", WHERE, OTHER_ANSWER),
        ("there is a cup. there is a blue cup.", COUNT, "two"),
        ("there is a cup. there is a blue cup. there are two cups. the cup is red.", COUNT, "two"),
        ("there is a ball.", COUNT, NOT_STATED),
        ("there is a cup and a ball.", THERE, "a ball"),
        ("there is a cup.", THERE, NOT_STATED),
        ("there is a ball and a fish.", THERE, OTHER_ANSWER),
    ],
)
def test_answers_follow_only_what_the_caption_states(caption, question, answer):
    assert choose(caption, *question) == answer


def test_unreadable_questions_are_reported():
    with pytest.raises(ValueError, match="can't read the question 'How many clouds are there"):
        find_answers("a ball.", "How many clouds are there?")
    with pytest.raises(ValueError, match="needs the delimited parts caption, question and options"):
        OracleQuestionAnswerer().answer(JudgeRequest(("What?",), "", Sample("", "")))
