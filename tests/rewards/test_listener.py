"""The listener: golden values, abstentions, blank images, and the lab's base that hears what is wrong."""

from __future__ import annotations

import math

import pytest
import torch

from rlcap.errors import ConfigError
from rlcap.lab.source import load_split
from rlcap.lab.truth import LabTruth
from rlcap.lab.world.language import INSTRUCTION
from rlcap.policy.listener import HeardCaption
from rlcap.rewards.listener import Listener, caption_evidence, token_evidence
from rlcap.types import RewardBatch, Sample


def test_evidence_golden():
    # .5 given the own image and .1 given another: log(.5 / .3) = .5108; with own = .3 also .3 · log .5 = −.2079
    table = torch.tensor([[0.5], [0.1]]).log()
    assert token_evidence(table, 0.0).tolist() == pytest.approx([0.5108], abs=1e-4)
    assert token_evidence(table, 0.3).tolist() == pytest.approx([0.5108 - 0.2079], abs=1e-4)


def test_evidence_is_bounded():
    table = torch.tensor([[-50.0, 0.0], [0.0, -50.0]])
    values = token_evidence(table, 1.0).tolist()
    assert values[0] == -4.0
    assert values[1] == pytest.approx(math.log(2))
    assert token_evidence(torch.tensor([[0.0], *[[-50.0]] * 20]), 0.0).item() == 2.0


def test_much_evidence_against_a_caption_keeps_its_order_and_loses_its_size():
    assert caption_evidence(torch.tensor([2.0, -0.5])) == 1.5
    found = [caption_evidence(torch.full((count,), -4.0)) for count in (0, 5, 500)]
    assert found == pytest.approx([0.0, -13.863, -92.302], abs=1e-3)


class Fixed:
    """A listening model that finds the words of an image's name likely."""

    passes = 0

    def __init__(self):
        self.seen = []

    def prompts(self, paths):
        from rlcap.errors import ImageError

        if any("broken" in path for path in paths):
            raise ImageError("broken.png", "broken.png", "no image", "replace it")
        return list(paths)

    def hear(self, captions, images):
        self.seen += images
        heard = []
        for caption, row in zip(captions, images, strict=True):
            words = caption.split()
            table = torch.tensor([[math.log(0.9 if word in path else 0.1) for word in words] for path in row])
            starts = [sum(len(w) + 1 for w in words[:i]) for i in range(len(words))]
            offsets = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
            heard.append(HeardCaption(table, offsets))
        return heard


def reward(**options):
    listener = Listener(gallery=["cat.png", "tree.png", "dog.png"], instruction="describe", **options)
    listener._model = Fixed()
    return listener


def batch(*captions, image="dog.png", bag=("cat.png",)):
    return RewardBatch(captions, [Sample("a", image)] * len(captions), distractor_images=[bag] * len(captions))


def test_words_that_only_the_own_image_makes_likely_get_credit():
    right, wrong = reward(own=0.0).score(batch("the dog", "the cat"))
    assert right.value > 0 > wrong.value
    assert [span.value > 0 for span in right.spans] == [False, True]
    assert [(span.start, span.end) for span in right.spans] == [(0, 3), (4, 7)]
    assert right.spans[1].label == "p 0.90 here, 0.37 on average"  # one of three images is of a dog


def test_a_posterior_is_a_log_probability():
    listener = reward(form="posterior", images=1)
    right, nothing = listener.score(batch("dog", ""))
    assert right.value == pytest.approx(math.log(0.9))
    assert nothing.value == pytest.approx(-math.log(2))
    assert listener.range == (-math.inf, 0.0)


def test_the_images_depend_on_the_row_alone():
    listener = reward(images=2)
    listener.score(batch("a dog", bag=("cat.png", "tree.png")))
    listener.score(batch("a dog", bag=()))
    first, second = listener._model.seen
    assert first[:2] == ["dog.png", "cat.png"]
    assert len(first) == 3
    assert second[0] == "dog.png"
    assert len(set(second)) == 3


def test_what_cannot_be_heard_abstains():
    scores = reward().score(batch("a dog", image="broken.png"))
    assert "broken.png" in scores[0].reason
    assert reward().score(batch("a dog", image=""))[0].reason == "no image path"
    alone = Listener(instruction="describe")
    alone._model = Fixed()
    assert alone.score(batch("a dog", bag=()))[0].reason == "no other image to compare with"
    kept = reward(images=2).score(batch("a dog", bag=("broken.png",)))
    assert kept[0].value is not None  # another image of the bag is left out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"own": -1}, "own is a weight"),
        ({"own": float("nan")}, "own is a weight"),
        ({"images": 0}, "images counts the other images"),
        ({"form": "sum"}, "form"),
        ({"form": "posterior", "against": "blank"}, "chooses among images"),
        ({"adapter": "x"}, "needs the model"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises((ValueError, ConfigError), match=message):
        Listener(**options)


def test_without_a_model_there_is_a_clear_error():
    with pytest.raises(ConfigError, match="name a captioner by `model`"):
        Listener(instruction="describe").score(batch("a dog"))


@pytest.fixture(scope="module")
def samples():
    return load_split("validation", 14)


@pytest.mark.parametrize("against", ["images", "blank"])
def test_the_base_of_the_lab_hears_a_false_sentence(samples, against):
    gallery = [sample.image for sample in samples]
    listener = Listener("lab:captioner", instruction=INSTRUCTION, gallery=gallery, against=against, images=4)
    truth = LabTruth()
    captions = [truth.good_caption(sample) for sample in samples]
    others = [captions[(i + 7) % len(captions)] for i in range(len(captions))]
    own, foreign = (
        [score.value for score in listener.score(RewardBatch(texts, samples))] for texts in (captions, others)
    )
    assert sum(a > b for a, b in zip(own, foreign, strict=True)) >= 13


def test_a_row_scores_the_same_in_any_batch(samples):
    gallery = [sample.image for sample in samples]
    listener = Listener("lab:captioner", instruction=INSTRUCTION, gallery=gallery, images=3)
    captions = ["There is a red ball.", "There is a blue cup at the top.", "The background is grass."]
    together = listener.score(RewardBatch(captions, samples[:3]))
    for caption, sample, score in zip(captions, samples, together, strict=False):
        alone = listener.score(RewardBatch([caption], [sample]))[0]
        assert alone.value == pytest.approx(score.value, abs=1e-4)
        assert [s.start for s in alone.spans] == [s.start for s in score.spans]


def test_the_configuration_names_it():
    from rlcap.reward.mix import check_mix

    mix = {"listener": {"reward": "listener", "params": {"own": 0.5}}}
    check_mix(mix, ("device", "gallery", "base", "instruction"))
