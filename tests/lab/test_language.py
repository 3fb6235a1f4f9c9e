import random

from rlcap.lab.world.language import (
    article,
    describe_count,
    describe_relation,
    describe_scene,
    noun_phrase,
    reading_order,
    sample_references,
    vocabulary,
)
from rlcap.lab.world.scene import Scene, Thing, sample_scene
from rlcap.lab.world.truth import check_caption, grammatical_share

BALL = Thing("ball", "red", "small", "striped", "bottom left")
BOX = Thing("box", "orange", "medium", "plain", "top")


def scenes(count):
    return [sample_scene(random.Random(seed)) for seed in range(count)]


def test_golden_sentences():
    assert noun_phrase(BALL, ("colour", "size", "fill")) == "a small striped red ball"
    assert noun_phrase(BOX, ("colour",)) == "an orange box"
    assert noun_phrase(BOX, (), "the") == "the box"
    assert describe_count("box", 2) == "there are two boxes."
    assert describe_count("fish", 3) == "there are three fish."
    assert describe_relation(BALL, "left of", BOX) == "the ball is to the left of the box."
    assert article("orange box") == "an orange box"
    assert reading_order(Scene("sand", (BALL, BOX))) == [BOX, BALL]


def test_two_thousand_references_are_true_grammatical_and_partial():
    recalls = []
    for seed, scene in enumerate(scenes(400)):
        found = sample_references(scene, random.Random(seed))
        assert len(found) == len(set(found)) == 5
        for text in found:
            verdict = check_caption(text, scene)
            assert verdict.wrong == [], (text, scene)
            assert grammatical_share(text) == 1.0, text
            assert verdict.stated
            recalls.append(verdict.recall)
    assert max(recalls) < 0.9
    assert 0.15 < sum(recalls) / len(recalls) < 0.4


def test_a_description_states_nearly_all_facts_and_nothing_false():
    for seed, scene in enumerate(scenes(400)):
        text = describe_scene(scene, random.Random(seed))
        verdict = check_caption(text, scene)
        assert verdict.wrong == [], (text, scene)
        assert verdict.recall >= 0.9
        assert grammatical_share(text) == 1.0, text


def test_references_are_a_function_of_their_seed_and_vary():
    scene = scenes(1)[0]
    assert sample_references(scene, random.Random(2)) == sample_references(scene, random.Random(2))
    assert len({sample_references(scene, random.Random(seed)) for seed in range(20)}) == 20


def test_the_vocabulary_covers_the_language():
    known = set(vocabulary())
    assert len(known) == len(vocabulary())
    for seed, scene in enumerate(scenes(300)):
        text = " ".join([describe_scene(scene, random.Random(seed)), *sample_references(scene, random.Random(seed))])
        assert set(text.replace(".", " .").split()) <= known
