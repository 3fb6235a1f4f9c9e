"""Parsing and checking captions, compared with captions that were checked by hand."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcap.lab.world.language import describe_scene, vocabulary
from rlcap.lab.world.scene import Scene, Thing, sample_scene
from rlcap.lab.world.truth import (
    Assertion,
    check_caption,
    facts,
    fit_score,
    grammatical_share,
    parse_caption,
    sentences,
    singles_out,
)

# column:      left              middle             right
# top                            1 large blue ball
# middle                         3 white boat       2 green tree
# bottom       0 small red ball
SCENE = Scene(
    "grass",
    (
        Thing("ball", "red", "small", "striped", "bottom left"),
        Thing("ball", "blue", "large", "plain", "top"),
        Thing("tree", "green", "large", "plain", "right"),
        Thing("boat", "white", "medium", "dotted", "middle"),
    ),
)

GOLDEN = [
    # caption, number of claims, the false claims (what, subject, value), number of stated facts
    ("there is a small striped red ball in the bottom left corner.", 5, [], 5),
    ("a small striped red ball is in the bottom left corner.", 5, [], 5),
    ("a large plain green tree and a boat.", 5, [], 5),
    ("there is a red boat.", 2, [("colour", "boat", "red")], 1),
    ("there is a small dotted boat at the top.", 4, [("size", "boat", "small"), ("place", "boat", "top")], 2),
    ("there are two balls.", 2, [], 3),
    ("there are three balls.", 2, [("count", "ball", "3")], 2),
    ("there are two trees.", 2, [("count", "tree", "2")], 1),
    ("there are two red balls.", 3, [("colour", "ball", "red")], 4),
    ("the boat is to the left of the tree.", 3, [], 3),
    ("the tree is to the left of the boat.", 3, [("relation", "tree", "left of")], 2),
    ("the tree is to the right of the boat.", 3, [], 3),
    ("the boat is above the tree.", 3, [("relation", "boat", "above")], 2),
    ("the ball is above the boat.", 3, [], 3),
    ("there is a purple kite at the top.", 3, [(w, "kite", v) for w, v in
                                               (("object", "kite"), ("colour", "purple"), ("place", "top"))], 0),
    ("there is a boat. there is a kite above the boat.", 3, [("object", "kite", "kite"), ("relation", "kite", "above")], 1),
    ("the ball is red.", 2, [], 2),
    ("the tree is purple.", 2, [("colour", "tree", "purple")], 1),
    ("the boat is dotted and white.", 3, [], 3),
    ("a red ball. a red ball. the ball is red.", 2, [], 2),
    ("a ball and a ball.", 1, [], 2),
    ("a blue ball and a red ball.", 3, [], 4),
    ("a red ball, a green tree, a white boat.", 6, [], 6),
    ("the background is grass.", 1, [], 1),
    ("the background is snow.", 1, [("background", "background", "snow")], 0),
    ("two balls on grass.", 3, [], 4),
    ("a boat in the center.", 2, [], 2),
    ("A BOAT!", 1, [], 1),
    ("boat boat boat", 1, [], 1),
    ("red green left of the", 0, [], 0),
    ("", 0, [], 0),
    ("the picture shows nothing that i know", 0, [], 0),
]  # fmt: skip


def test_the_facts_of_a_scene():
    # background, 4 things x 5, two balls, and the relations ball 0 - boat, ball 1 - boat, tree - boat.
    assert len(facts(SCENE)) == 1 + 20 + 1 + 3
    assert [fact for fact in facts(SCENE) if fact[0] == "relation"] == [
        ("relation", 0, 3),
        ("relation", 1, 3),
        ("relation", 2, 3),
    ]


@pytest.mark.parametrize(
    ("caption", "claims", "wrong", "stated"), GOLDEN, ids=[row[0][:40] or "empty" for row in GOLDEN]
)
def test_golden_verdicts(caption, claims, wrong, stated):
    verdict = check_caption(caption, SCENE)
    assert len(verdict.claims) == claims, verdict.claims
    assert [(claim.what, claim.subject, claim.value) for claim in verdict.wrong] == wrong
    assert len(verdict.stated) == stated, verdict.stated
    assert verdict.recall == stated / 25
    assert verdict.hallucination_rate == (len(wrong) / claims if claims else 0.0)


def test_a_relation_also_names_the_other_thing():
    assert check_caption("the boat is to the left of the tree.", SCENE).claims[
        Assertion("relation", "boat", "left of", "tree")
    ]


def test_singling_out_by_truth():
    red = Scene("grass", SCENE.things[:1] + SCENE.things[2:])
    blue = Scene("grass", (Thing("ball", "blue", "small", "striped", "bottom left"), *SCENE.things[2:]))
    assert fit_score("a red ball", red) == 2
    assert fit_score("a red ball", blue) == 0
    assert singles_out("a red ball and a tree.", red, [blue])
    assert not singles_out("a ball and a tree.", red, [blue])  # a tie does not count
    assert not singles_out("a blue ball", red, [blue])
    assert not singles_out("", red, [blue])
    assert singles_out("a red ball and a purple kite", red, [blue])  # one false claim does not prevent it
    assert singles_out("anything", red, [])


@pytest.mark.parametrize(
    ("caption", "share"),
    [
        ("there is a small striped red ball in the top left corner.", 1.0),
        ("an orange box and two fish on sand.", 1.0),
        ("there are three large boats.", 1.0),
        ("the ball is to the left of the box.", 1.0),
        ("a ball above a boat on water.", 1.0),
        ("the background is wood.", 1.0),
        ("there is a ball. ball red the a.", 0.5),
        ("there is a red small ball.", 0.0),
        ("there is a ball ball.", 0.0),
        ("the ball is to the left.", 0.0),
        ("a dragon.", 0.0),
        ("", 0.0),
    ],
)
def test_grammatical_share(caption, share):
    assert grammatical_share(caption) == share


def check(text):
    mentions, relations, _ = parse_caption(text)
    assert all(0 <= i < len(mentions) and 0 <= j < len(mentions) for i, _, j in relations)
    verdict = check_caption(text, SCENE)
    assert 0 <= verdict.recall <= 1
    assert 0 <= verdict.hallucination_rate <= 1
    assert verdict.stated <= set(facts(SCENE))
    assert 0 <= grammatical_share(text) <= 1
    assert check_caption(text, SCENE) == verdict


@given(st.lists(st.sampled_from([*vocabulary(), "!", "?", "the", "left of", "right of", "\n"]), max_size=80))
@settings(max_examples=300, deadline=None)
def test_shuffled_words_are_parsed_without_error(words):
    check(" ".join(words))


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_unicode_is_parsed_without_error(text):
    check(text)


def test_ten_thousand_words_are_parsed_in_seconds():
    rng = random.Random(0)
    words = vocabulary()
    check(" ".join(rng.choice(words) for _ in range(10_000)))
    check("a " * 10_000)
    check("there is a ball and " * 2_500)


def test_joined_captions_claim_no_more_than_their_parts():
    for seed in range(100):
        scene = sample_scene(random.Random(seed))
        text = describe_scene(scene, random.Random(seed))
        assert check_caption(f"{text} {text}", scene).claims == check_caption(text, scene).claims


def test_sentences_keep_words_and_drop_marks():
    assert sentences("A ball, red. Two boats!") == [["a", "ball", "red"], ["two", "boats"]]
