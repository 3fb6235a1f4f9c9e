"""Questions: their form, the order of their options, replies, and which are worth asking."""

import asyncio
import random
from collections import Counter

import pytest
from fake_backends import FakeBackend, make_reward
from PIL import Image

from rlcap.errors import ConfigError, QuestionError, ReplyFormatError
from rlcap.judge.cache import ReplyCache
from rlcap.judge.templates import PromptTemplate, extract_delimited
from rlcap.lab.oracles.question_answerer import OracleQuestionAnswerer
from rlcap.rewards.caption_qa import CaptionQa
from rlcap.rewards.caption_qa.questions import (
    NOT_STATED,
    Choice,
    QuestionReader,
    curate,
    order_options,
    parse_choice,
    parse_questions,
)
from rlcap.types import Sample

ROW = {"question": "What colour?", "options": ["red", "blue", "green", "white"], "answer": "red"}
CHOICE = Choice("What colour?", ("red", "blue", "green", "white"), "red")


def test_the_form_is_read():
    assert parse_questions([ROW, {**ROW, "answer": "B", "source": "x"}], "a") == [
        CHOICE,
        Choice(CHOICE.question, CHOICE.options, "blue"),
    ]
    assert parse_questions([CHOICE.row()], "a") == [CHOICE]
    assert parse_questions(None, "a") == parse_questions([], "a") == []
    assert parse_questions([{**ROW, "options": ["A", "B"], "answer": "B"}], "a")[0].answer == "B"
    assert parse_questions([{**ROW, "question": " What\n colour? "}], "a") == [CHOICE]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("What?", r"""^sample 'x7': meta\["questions"\] must be a list, got 'What\?'"""),
        ([ROW, "What?"], r"""^sample 'x7': meta\["questions"\]\[1\] is 'What\?'; write"""),
        ([{"question": "a"}], "lacks options, answer"),
        ([{**ROW, "question": " "}], "must ask something"),
        ([{**ROW, "options": "red"}], "needs 2 to 24 texts"),
        ([{**ROW, "options": ["red"]}], "needs 2 to 24 texts"),
        ([{**ROW, "options": [*map(str, range(25))]}], "needs 2 to 24 texts"),
        ([{**ROW, "options": ["red", None]}], "needs 2 to 24 texts"),
        ([{**ROW, "options": ["red", "Red "]}], "two options of the same text"),
        ([{**ROW, "options": ["red", NOT_STATED]}], "or one of ours"),
        ([{**ROW, "answer": "pink"}], "one of the options or its letter, got 'pink'"),
        ([{**ROW, "answer": "E"}], "one of the options or its letter, got 'E'"),
        ([{**ROW, "answer": 0}], "got 0"),
    ],
)
def test_a_malformed_question_is_named_with_its_sample(rows, message):
    with pytest.raises(QuestionError, match=message):
        parse_questions(rows, "x7")


def test_the_order_golden():
    assert [order_options(CHOICE, "A ball.", "a", draw).index("red") for draw in range(5)] == [3, 0, 1, 2, 3]
    assert order_options(CHOICE, "A ball.", "a", 0) == ("blue", "white", "green", "red")


def test_the_order_depends_on_its_arguments_alone_and_the_answer_stands_everywhere_equally_often():
    for caption in ("A ball.", "\ud800 猫", ""):
        orders = [order_options(CHOICE, caption, "a", draw) for draw in range(4)]
        assert orders == [order_options(CHOICE, caption, "a", draw) for draw in range(4)]
        assert sorted(order.index("red") for order in orders) == [0, 1, 2, 3]
        assert all(sorted(order) == sorted(CHOICE.options) for order in orders)
    starts = Counter(order_options(CHOICE, f"Caption {i}.", "a", 0).index("red") for i in range(400))
    assert all(60 < starts[place] < 140 for place in range(4))
    assert len({order_options(CHOICE, f"Caption {i}.", "a", 0) for i in range(400)}) == 24
    assert len({order_options(CHOICE, "A ball.", f"sample {i}", 0) for i in range(400)}) == 24


OPTIONS = ["red", "dark blue", NOT_STATED]


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("A", "red"), ("b", "dark blue"), (" C.\n", NOT_STATED), ("(B)", "dark blue"), ("B) dark blue", "dark blue"),
        ("**B**", "dark blue"), ("Answer: B. Dark blue.", "dark blue"), ("B: dark blue", "dark blue"), ("dark blue", "dark blue"),
        ("Red.", "red"), ("<think>A or B?</think>\nA", "red"), (NOT_STATED, NOT_STATED),
    ],
)  # fmt: skip
def test_a_reply_names_an_option(reply, option):
    assert parse_choice(reply, OPTIONS) == option


@pytest.mark.parametrize(
    "reply", ["", "D", "A or B", "B. red", "I think it is A", "A\nB", "a dark blue one", "The ball is red", "AB", "1"]
)
def test_anything_else_names_none(reply):
    with pytest.raises(ReplyFormatError):
        parse_choice(reply, OPTIONS)


class Answerer(FakeBackend):
    """Knows the right answers where it is given the caption (or an image); otherwise it always says B."""

    name = "answerer"

    def __init__(self, sees=False):
        self.accepts_images = sees

    def generate(self, content, system_prompt=None, **_):
        text = content if isinstance(content, str) else content[0]
        caption, options = extract_delimited("caption", text), extract_delimited("options", text).splitlines()
        if not isinstance(content, str):
            caption = "red"
        if "usual" in extract_delimited("question", text):
            caption = "red"  # every guess is right
        return next((line[0] for line in options if line[3:] in caption), "B")


def test_curation_keeps_what_takes_the_image():
    rows = [ROW, {**ROW, "question": "What is the usual colour?"}, {**ROW, "question": "How blue?", "answer": "blue"}]
    samples = [Sample("a", "", paragraph="A red ball.", meta={"questions": rows}), Sample("b", "")]
    reader = make_reward(CaptionQa, Answerer(), cache=":memory:").grader
    found = asyncio.run(curate(samples, reader, oracle=lambda sample: sample.paragraph, draws=4))
    assert [(t.sample, t.right_with, t.right_without, t.kept) for t in found] == [
        ("a", 1.0, 0.25, False),  # always saying B is right in one of four orders, and .25 is not below .25
        ("a", 1.0, 1.0, False),
        ("a", 0.0, 0.25, False),
    ]
    found = asyncio.run(curate(samples, reader, oracle=lambda sample: sample.paragraph, draws=4, low=0.26))
    assert [t.question.row() for t in found if t.kept] == [ROW]


def test_curation_by_a_judge_that_sees(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    prompt = PromptTemplate("s", "{caption} {question} {options}".replace(" ", "\n"))
    sample = Sample("a", str(path), meta={"questions": [ROW]})
    sees = QuestionReader(Answerer(sees=True), prompt, ReplyCache(":memory:"), image=True)
    blind = QuestionReader(Answerer(), prompt, ReplyCache(":memory:"))
    (trial,) = asyncio.run(curate([sample], sees, blind, draws=4, low=0.3))
    assert trial.kept
    for wrong in ((blind, None), (sees, None), (sees, sees)):
        with pytest.raises(ConfigError, match="a reader that sees"):
            asyncio.run(curate([sample], *wrong))


def test_curation_by_the_lab():
    from rlcap.lab.world.language import describe_scene
    from rlcap.lab.world.questions import questions
    from rlcap.lab.world.scene import sample_scene

    rng = random.Random(0)
    scenes = [sample_scene(rng) for _ in range(3)]
    texts = {str(i): describe_scene(scene, rng) for i, scene in enumerate(scenes)}
    samples = [Sample(str(i), "", meta={"questions": questions(scene)}) for i, scene in enumerate(scenes)]
    reader = make_reward(CaptionQa, OracleQuestionAnswerer(), cache=":memory:").grader
    found = asyncio.run(curate(samples, reader, oracle=lambda sample: texts[sample.id], draws=2))
    assert len(found) == 15
    assert all(trial.kept for trial in found)
