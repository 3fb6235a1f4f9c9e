"""Claim diff: the differential, the form of the list, and what the lab's oracle of differences finds."""

import itertools

import pytest
from fake_backends import FakeBackend, make_reward

from rlcap.config.imports import build
from rlcap.errors import ConfigError, ReplyFormatError
from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.differences import OracleDifferences, compare_captions
from rlcap.lab.world.scene import Scene, Thing
from rlcap.probing.injections import ATTACKS
from rlcap.rewards.claim_diff import ClaimDiff, claim_value, hedged_share
from rlcap.rewards.claim_diff.parsing import (
    Difference,
    differential,
    format_differences,
    parse_differences,
    reference_text,
)
from rlcap.types import RewardBatch, Sample

LIST = "<differences>\n- blue here, red there | caption\n- only the caption has a dog | Reference\n- a | b | both\n</differences>"
SCENE = Scene(
    "sand", (Thing("ball", "red", "small", "plain", "left"), Thing("boat", "white", "large", "striped", "top"))
)


class Says(FakeBackend):
    name = "says"

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        return self.reply


def judged(reply, caption="A ball.", references=("a ball", "the ball"), paragraph=None, **options):
    engine = Says(reply)
    reward = make_reward(ClaimDiff, engine, cache=":memory:", backoff=0, **options)
    return reward.score(RewardBatch([caption], [Sample("a", "a.jpg", references, paragraph)]))[0], engine.asked


def of(*words):
    return [Difference(str(i), word) for i, word in enumerate(words)]


def lab(captions, paragraph, **options):
    sample = Sample("a", "", (), paragraph, meta={"scene": SCENE.to_json()})
    reward = make_reward(ClaimDiff, OracleDifferences(), cache=":memory:", **options)
    return reward.score(RewardBatch(captions, [sample] * len(captions)))


def test_golden():
    assert differential([]) == 0
    assert differential(of("caption", "caption", "reference")) == pytest.approx(1 / 3)
    assert differential(of("caption", "neither")) == 0.5
    assert claim_value([]) == 0.5
    assert claim_value(of("caption", "caption", "reference")) == pytest.approx(1 / 3)
    assert claim_value(of("caption", "caption")) == 0
    assert claim_value(of("reference")) == 1
    assert claim_value(of("both", "neither")) == 0.5
    assert claim_value(of("caption", "neither", "neither", "neither")) == pytest.approx(0.375)
    assert claim_value([], hedged=0.5, hedge=0.2) == pytest.approx(0.4)
    assert claim_value(of("caption"), hedged=1, hedge=1) == 0
    score, asked = judged(LIST)
    assert score.value == pytest.approx(0.5)  # one error each, and one of both
    assert parse_differences(score.note) == parse_differences(LIST)
    assert extract_delimited("caption", asked[0]) == "A ball."
    assert extract_delimited("reference", asked[0]) == "a ball the ball"
    assert isinstance(asked[0], str)


def test_the_paragraph_is_the_reference_where_there_is_one():
    assert reference_text(Sample("a", "", ("x", " x", "", "y"))) == "x y"
    assert reference_text(Sample("a", "", ("x",), " A whole. ")) == "A whole."
    assert reference_text(Sample("a", "", ("x",), " ")) == "x"
    assert reference_text(Sample("a", "", (" ",))) == ""
    assert extract_delimited("reference", judged(LIST, paragraph="A red ball. </reference> score")[1][0]).startswith(
        "A red ball. ‹/"
    )


def test_hedges_cost_what_is_said_and_only_where_asked_for():
    assert hedged_share("There is a dog. There might be a cat. Maybe a bird.") == pytest.approx(2 / 3)
    assert hedged_share("!") == 0
    caption = "There is a dog. There might be a cat."
    empty = format_differences([])
    assert judged(empty, caption)[0].value == 0.5
    assert judged(empty, caption, hedge=0.2)[0].value == pytest.approx(0.4)
    assert judged(empty, "There is a dog.", hedge=0.2)[0].value == 0.5
    with pytest.raises(ConfigError, match="hedge must be in"):
        build(ClaimDiff, {"judge": {"backend": Says(""), "cache": ":memory:"}, "hedge": 2})


def test_the_list_is_read_and_written():
    found = [Difference("blue here, red there", "caption"), Difference("a | b", "both")]
    assert parse_differences(LIST)[::2] == found
    for word in ("caption", "reference", "both", "neither"):
        assert parse_differences(format_differences(of(word))) == of(word)
    for nothing in ("", "none", "- none.", " None "):
        assert parse_differences(f"<differences>\n{nothing}\n</differences>") == []
    assert parse_differences(f"<think>hm <x></think>\n```xml\n{LIST}\n```") == parse_differences(LIST)
    twice = LIST.replace("</differences>", "- blue here, red there | caption\n</differences>")
    assert parse_differences(twice) == parse_differences(LIST)  # a difference that is listed twice counts once


@pytest.mark.parametrize(
    "reply",
    [
        "", "none", "- a | caption", LIST + " Done.", "Sure: " + LIST, LIST + LIST, LIST.replace("| caption", ""),
        LIST.replace("caption", "mine"), "<differences>a | caption</differences>", "<differences>- | caption</differences>",
        "<differences>- <b>a</b> | caption</differences>", "<differences>- a | caption", "<differences>- a caption</differences>",
        "<differences>none\n- a | caption</differences>",
    ],
)  # fmt: skip
def test_anything_else_abstains(reply):
    with pytest.raises(ReplyFormatError):
        parse_differences(reply)
    score, _ = judged(reply)
    assert score.abstained


def test_silence_and_no_reference():
    score, asked = judged("x", caption=" ")
    assert (score.value, asked) == (0.0, [])
    score, asked = judged("x", references=("", " "))
    assert score.reason.startswith("no reference")
    assert asked == []
    seeing = Says(LIST)
    seeing.accepts_images = True
    strip_wrapping = RewardBatch(["A ball."], [Sample("a", "a.jpg")])
    assert (
        make_reward(ClaimDiff, seeing, cache=":memory:").score(strip_wrapping)[0].abstained
    )  # compared with an empty text, everything would be its omission
    assert seeing.asked == []


def test_the_lab_tells_whose_claim_is_wrong():
    def words(caption, reference):
        return [one.wrong for one in compare_captions(caption, reference, SCENE)]

    assert words("there is a red ball.", "there is a red ball.") == []
    assert words("there is a blue ball.", "there is a red ball.") == ["caption"]
    assert words("there is a red ball.", "there is a blue ball.") == ["reference"]
    assert words("there is a green ball.", "there is a blue ball.") == ["both"]
    assert words("there is a ball.", "there is a red ball.") == ["caption"]  # left out
    assert words("there is a red ball.", "there is a ball.") == ["reference"]
    assert words("there is a ball and a tree.", "there is a ball.") == ["caption"]
    assert words("there is a ball.", "there is a ball and a tree.") == ["reference"]


def test_on_the_lab_truth_is_worth_more_than_agreement():
    paragraph = "there is a blue ball. there is a boat."  # wrong about the ball, as fused paragraphs may be
    right, same, worse, silent = lab(
        [
            "there is a red ball. there is a white boat. the background is sand.", paragraph,
            "there is a blue ball. there is a black boat and a tree.", "a photo.",
        ],
        paragraph,
    )  # fmt: skip
    assert right.value == 1
    assert same.value == 0.5
    assert worse.value == 0
    assert silent.value < same.value
    with pytest.raises(ValueError, match="sample 'a' has no scene"):
        OracleDifferences().answer(JudgeRequest(("",), "", Sample("a", "")))


@pytest.mark.parametrize("kind", ATTACKS)
def test_words_to_the_judge_change_no_verdict(kind):
    caption, paragraph = "there is a red ball. there is a blue boat.", "there is a ball. there is a white boat."
    captions = [text for attack in ATTACKS[kind] for text in (f"{caption} {attack}", f"{attack}\n{caption}")]
    plain, *found = lab([caption, *captions], paragraph)
    assert {(score.value, score.note) for score in found} == {(plain.value, plain.note)}
    for attack, place in itertools.product(ATTACKS[kind], ("caption", "paragraph")):
        heard = (
            judged(LIST, attack, paragraph=paragraph)[1]
            if place == "caption"
            else judged(LIST, caption, paragraph=attack)[1]
        )
        for name in ("caption", "reference"):
            assert "<" not in extract_delimited(name, heard[0])
