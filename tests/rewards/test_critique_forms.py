"""The critique's other forms: two captions in both orders, and the edit distance from a caption to its correction."""

import itertools
import random

import pytest
from fake_backends import FakeBackend, make_reward

from rlcap.config.imports import build
from rlcap.errors import ConfigError
from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.comparers import OracleCorrector, OraclePreference, correct_caption
from rlcap.lab.world.scene import Scene, Thing
from rlcap.probing.injections import ATTACKS
from rlcap.rewards.critique import Critique
from rlcap.rewards.critique.edit_similarity import MAX_WORDS, edit_distance, edit_similarity
from rlcap.rewards.critique.pairwise import Preference, both_orders, opponent, pairwise_value
from rlcap.types import RewardBatch, Sample

SCENE = Scene(
    "sand", (Thing("ball", "red", "small", "plain", "left"), Thing("boat", "white", "large", "striped", "top"))
)
GOOD = "there is a red ball. there is a white boat. the background is sand."
LAB = {"best_of_two": OraclePreference, "revision_gap": OracleCorrector}


class Says(FakeBackend):
    name = "says"

    def __init__(self, *replies):
        self.replies, self.asked = itertools.cycle(replies), []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        return next(self.replies)


def judged(form, *replies, caption="A red ball.", references=("a ball", "the ball"), paragraph=None):
    engine = Says(*replies)
    reward = make_reward(Critique, engine, form=form, cache=":memory:", backoff=0, concurrency=1, retries=1)
    return reward.score(RewardBatch([caption], [Sample("a", "a.jpg", references, paragraph)]))[0], engine.asked


def lab(form, captions, paragraph=GOOD):
    sample = Sample("a", "", ("a ball.",), paragraph, meta={"scene": SCENE.to_json()})
    reward = make_reward(Critique, LAB[form](), form=form, cache=":memory:")
    return reward.score(RewardBatch(captions, [sample] * len(captions)))


def better(word):
    return f"<reason>it says more</reason>\n<better>{word}</better>"


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [((1, 1), 1), ((0, 0), 0.5), ((-1, -1), 0), ((1, -1), 0.5), ((1, 0), 0.5), ((0, -1), 0.5), ((-1, 1), 0.5)],
)
def test_golden_orders(outcomes, wanted):
    assert pairwise_value([Preference(won, "") for won in outcomes]) == wanted


@pytest.mark.parametrize(
    ("replies", "wanted"),
    [
        (("first", "second"), 1), (("second", "first"), 0), (("neither", "neither"), 0.5), (("first", "first"), 0.5),
        (("second", "second"), 0.5), (("first", "Neither."), 0.5),
    ],
)  # fmt: skip
def test_a_caption_is_compared_in_both_orders(replies, wanted):
    score, asked = judged("best_of_two", *map(better, replies))
    assert score.value == wanted
    assert score.note == "it says more\nit says more"
    pairs = [(extract_delimited("first", prompt), extract_delimited("second", prompt)) for prompt in asked]
    assert pairs == [("A red ball.", "a ball"), ("a ball", "A red ball.")]
    assert extract_delimited("references", asked[0]) == "- a ball\n- the ball"


def test_the_paragraph_is_the_opponent_where_there_is_one():
    assert opponent(Sample("a", "", ("", " x ", "y"))) == "x"
    assert opponent(Sample("a", "", ("x",), " p ")) == "p"
    assert opponent(Sample("a", "", ("x",), " ")) == "x"
    assert both_orders("c", Sample("a", "", (" ",), None)) == []
    score, asked = judged("best_of_two", better("first"), references=(" ",))
    assert (score.reason, asked) == ("no paragraph or reference to compare with", [])


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "first",
        "<better>first</better>",
        better("third"),
        better("first") + "!",
        better("first or second"),
        better(""),
    ],
)
def test_a_comparison_that_cannot_be_read_abstains(reply):
    assert judged("best_of_two", reply)[0].abstained
    assert judged("best_of_two", better("first"), reply, reply)[0].abstained  # one order is not enough


def test_golden_distances():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("", "") == edit_distance("abc", "abc") == 0
    assert edit_distance("flaw", "lawn") == 2
    assert edit_similarity("a red ball", "A red ball!") == 1
    assert edit_similarity("a red ball", "a blue ball and a boat") == pytest.approx(1 / 3)
    assert edit_similarity("...", "a ball") == edit_similarity("...", "...") == 0
    assert edit_similarity("a " * 5000, "b " * MAX_WORDS) == 0


def test_the_distance_is_that_of_the_whole_table():
    rng = random.Random(0)
    for _ in range(200):
        one, two = (rng.choices("abc", k=rng.randint(0, 9)) for _ in range(2))
        table = {(i, j): i + j for i in range(len(one) + 1) for j in range(len(two) + 1) if not i * j}
        for i, j in itertools.product(range(1, len(one) + 1), range(1, len(two) + 1)):
            swap = table[i - 1, j - 1] + (one[i - 1] != two[j - 1])
            table[i, j] = min(swap, table[i - 1, j] + 1, table[i, j - 1] + 1)
        assert edit_distance(one, two) == table[len(one), len(two)]


def test_a_rewriting_is_read_and_kept():
    score, asked = judged("revision_gap", "<revised>A red ball and a boat.</revised>")
    assert score.value == pytest.approx(0.5)
    assert score.note == "A red ball and a boat."
    assert extract_delimited("caption", asked[0]) == "A red ball."
    assert judged("revision_gap", "<think>x</think>```\n<revised>a red ball</revised>\n```")[0].value == 1
    for reply in ("", "a red ball", "<revised></revised>", "<revised>...</revised>", "<revised>a</revised> more",
                  f"<revised>{'a ' * (MAX_WORDS + 1)}</revised>", "<revised>a <b>red</b> ball</revised>"):  # fmt: skip
        assert judged("revision_gap", reply)[0].abstained, reply[:40]


def test_ranges_prompts_and_forms_that_are_none():
    for form, low in (("score", -1), ("best_of_two", 0), ("revision_gap", 0)):
        reward = build(Critique, {"judge": {"backend": Says(""), "cache": ":memory:"}, "form": form})
        assert reward.range == (low, 1)
        assert reward.score(RewardBatch([" "], [Sample("a", "", ("x",))]))[0].value == low
    assert Critique.range == (-1, 1)
    with pytest.raises(ConfigError, match="form of Critique must be score or best_of_two or revision_gap, got 'best'"):
        build(Critique, {"judge": {"backend": Says(""), "cache": ":memory:"}, "form": "best"})
    with pytest.raises(ValueError, match="form must be score, best_of_two, revision_gap, got 'best'"):
        make_reward(Critique, Says(""), form="best", cache=":memory:")


def test_the_lab_prefers_and_corrects_by_truth():
    false, less = "there is a blue ball. there is a white boat. the background is sand.", "there is a red ball."
    more = GOOD + " there is a large boat."
    assert [score.value for score in lab("best_of_two", [more, GOOD, less, false])] == [1, 0.5, 0, 0]
    assert correct_caption(GOOD, SCENE) == GOOD
    assert correct_caption(false + " what a scene. " + false, SCENE) == (
        "there is a white boat. the background is sand. there is a red ball."
    )
    values = [score.value for score in lab("revision_gap", [GOOD, less, "red ball boat white sand", "a photo"])]
    assert values[0] == 1
    assert values[0] > values[1] > values[2] > values[3] == pytest.approx(1 / 14)
    for engine in (OraclePreference, OracleCorrector):
        with pytest.raises(ValueError, match="sample 'a' has no scene"):
            engine().answer(JudgeRequest(("",), "", Sample("a", "")))


@pytest.mark.parametrize("kind", ATTACKS)
def test_text_for_the_judge_does_not_raise_the_score(kind):
    caption = "there is a red ball. there is a blue boat."
    captions = [text for attack in ATTACKS[kind] for text in (f"{caption} {attack}", f"{attack}\n{caption}")]
    for form in LAB:
        plain, *found = lab(form, [caption, *captions])
        assert all(score.value <= plain.value for score in found)
    for attack in ATTACKS[kind]:
        for prompt in judged("best_of_two", better("first"), caption=attack, paragraph=attack)[1]:
            assert "<" not in extract_delimited("first", prompt) + extract_delimited("second", prompt)
