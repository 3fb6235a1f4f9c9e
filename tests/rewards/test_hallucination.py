"""Hallucination: MOCHa's formulas, sentences, hedges, and a real NLI model where there is one."""

from pathlib import Path

import pytest
import torch

from rlcap.rewards.hallucination import Hallucination, adequacy, fidelity
from rlcap.scorers.claims import sentence_cost, sentence_costs
from rlcap.scorers.grounding import Grounding
from rlcap.scorers.text.hedges import is_hedged, strip_hedges
from rlcap.types import RewardBatch, Sample

REAL = Path(__file__).parents[2].parent / "shared" / "real" / "nli-minilm"


class WordNli:
    """Entailed: the premise has all of the claim's words. Contradicted: it says cat. Open: all else, such as hedges."""

    truncated_share = 0.0

    def probabilities(self, premises, hypotheses):
        rows = []
        for premise, claim in zip(premises, hypotheses, strict=True):
            said = set(claim.lower().strip(".").split())
            if said & {"maybe", "might", "or"}:
                rows.append([0.0, 1.0, 0.0])
            elif "cat" in said:
                rows.append([0.0, 0.0, 1.0])
            else:
                rows.append([1.0, 0.0, 0.0] if said <= set(premise.lower().split()) else [0.0, 1.0, 0.0])
        return torch.tensor(rows).reshape(-1, 3)


class ConstantNli(WordNli):
    def __init__(self, p):
        self.p = p

    def probabilities(self, premises, hypotheses):
        return torch.tensor([[1 - self.p, 0.0, self.p]]).repeat(len(premises), 1)


class WordGrounding(Grounding):
    """Return a support of 1 for the words that a reference has, and of 0 for all others."""

    def __init__(self, share):
        for name, value in (("share", share), ("worst", 1.0), ("power", 1.0), ("chance", 0.0)):
            object.__setattr__(self, name, value)

    def support(self, texts, references):
        split = [
            (text.lower().strip(".").split(), " ".join(row).split())
            for text, row in zip(texts, references, strict=True)
        ]
        return [[(word, float(word in said)) for word in words] for words, said in split]


class ConstantF1:
    def __init__(self, f1):
        self.f1 = f1

    def best_f1(self, captions, references):
        return [self.f1] * len(captions)


def batch(*captions, references=("a red ball", "the dog sleeps")):
    return RewardBatch(captions, [Sample("a", "", references=references)] * len(captions))


def grounded(share=0.5, **options):
    return Hallucination(WordNli(), form="grounded", alpha=1.0, grounding=WordGrounding(share), **options)


def sentences(alpha=1.0, **options):
    return Hallucination(WordNli(), form="sentences", alpha=alpha, **options)


def test_mocha_golden():
    assert fidelity(0.25) == 0.5
    assert adequacy(0.60) == pytest.approx(0.5)
    assert adequacy(0.85) == adequacy(0.99) == 1
    assert adequacy(-1) == -1
    reward = Hallucination(ConstantNli(0.25), encoder=ConstantF1(0.60))
    assert reward.score(batch("a cat"))[0].value == pytest.approx(0.5)
    reward = Hallucination(ConstantNli(0.25), encoder=ConstantF1(0.85), alpha=0.25)
    assert reward.score(batch("a cat"))[0].value == pytest.approx(0.25 * 0.5 + 0.75)


def test_mocha_takes_the_mean_over_references():
    class Half(WordNli):
        def probabilities(self, premises, hypotheses):
            return torch.tensor([[0.0, 0.0, 1.0] if "dog" in p else [1.0, 0.0, 0.0] for p in premises])

    assert Hallucination(Half(), alpha=1).score(batch("x"))[0].value == 0


def test_sentences_golden():
    values = [s.value for s in sentences().score(batch("A red ball.", "A cat.", "A tree.", "A red ball. A cat."))]
    assert values == pytest.approx([1, -1, 0.4, 0])


def test_grounded_golden():
    # "A blue ball.": open to the NLI model (.3), one word of three in doubt; half of each, then 1 − 2 · cost
    values = [s.value for s in grounded().score(batch("A red ball.", "A blue ball.", "A cat.", "A red ball. A cat."))]
    assert values == pytest.approx([1, 1 - 2 * (0.15 + 1 / 6), 1 - 2 * 0.75, 0.25])
    alone = [s.value for s in grounded(share=0.0).score(batch("A red ball.", "A cat.", "A tree."))]
    assert alone == pytest.approx([s.value for s in sentences().score(batch("A red ball.", "A cat.", "A tree."))])


def test_a_sentence_is_supported_by_several_references_together():
    assert sentences().score(batch("The dog a red ball."))[0].value == 1


def test_sentence_cost_golden():
    # given all at once (.2, .2, .6): against .6 / .8 = .75; the best single reference supports by .5; .5 · (.75 + .25 · .3)
    assert sentence_cost(0.5, 0.6, 0.8, 0.3) == pytest.approx(0.4125)


@pytest.mark.parametrize(
    "hedged", ["Maybe a cat.", "There might be a cat.", "A cat, possibly.", "It seems that a cat.", "A cat?"]
)
def test_a_hedged_falsehood_costs_like_the_bare_one(hedged):
    assert is_hedged(hedged)
    assert sentences().score(batch(hedged))[0].value == -1


def test_a_hedged_truth_costs_like_an_unsupported_claim():
    values = [
        s.value for s in sentences().score(batch("A red ball.", "Maybe a red ball.", "A red ball or a red ball."))
    ]
    assert values == pytest.approx([1, 0.4, 0.4])


def test_hedges_are_taken_off_and_plain_speech_is_left_alone():
    assert strip_hedges("There might possibly be a dog.") == "there is a dog."
    assert strip_hedges("It could be a cat") == "It is a cat"
    assert strip_hedges("I think that the ball is red.") == "the ball is red."
    for plain in ("A dog can be seen.", "A can of soda.", "Most of the sky is blue.", "A doctor."):
        assert not is_hedged(plain)
        assert strip_hedges(plain) == plain


def test_saying_a_truth_twice_does_not_dilute_a_falsehood():
    once, twice = sentences().score(batch("A red ball. A cat.", "A red ball. A red ball. A red ball. A cat."))
    assert once.value == twice.value == pytest.approx(0)


@pytest.mark.parametrize("form", ["mocha", "sentences", "grounded"])
def test_empty_captions_lose_and_missing_references_abstain(form):
    reward = Hallucination(WordNli(), form=form, alpha=1, grounding=WordGrounding(0.5))
    empty, blank = reward.score(batch("", "  \n"))
    assert empty.value == blank.value == -1
    for references in ((), ("", " ")):
        score = reward.score(batch("a ball", references=references))[0]
        assert score.reason == "no reference to compare with"


@pytest.mark.parametrize("form", ["mocha", "sentences", "grounded"])
def test_order_batch_unicode_and_long_captions(form):
    reward = Hallucination(WordNli(), form=form, alpha=1, grounding=WordGrounding(0.5))
    captions = ["A red ball.", "", "A cat. " * 1500, "Größe 猫 🐱", "..."]
    together = reward.score(batch(*captions))
    assert together[:] == reward.score(batch(*captions[::-1]))[::-1]
    assert list(together) == [reward.score(batch(caption))[0] for caption in captions]
    assert all(-1 <= score.value <= 1 for score in together)


def test_invalid_options_are_rejected():
    with pytest.raises(ValueError, match="mocha, sentences or grounded, got 'mocah'"):
        Hallucination(WordNli(), form="mocah")
    with pytest.raises(ValueError, match="alpha must be at least 0 and at most 1, got 2"):
        Hallucination(WordNli(), alpha=2)


def test_claims_need_no_references_beyond_those_given():
    assert sentence_costs(WordNli(), ["a tree"], [["a red ball"]], unsupported=0.5) == [[0.5]]


@pytest.mark.skipif(not REAL.is_dir(), reason="no real NLI model")
def test_real_model_ranks_true_above_unsupported_above_false_and_hedging_gains_nothing():
    references = ("A brown dog lies on a red sofa.", "A dog is sleeping on the couch in a living room.")
    captions = [
        "A dog is sleeping on a red sofa.",
        "A dog is sleeping on a red sofa. A cat is standing on the sofa.",
        "A cat is standing on a blue car.",
        "There might be a cat standing on a blue car.",
        "Two horses run along the beach.",
    ]
    reward = Hallucination(str(REAL), form="sentences", alpha=0.5)
    true, mixed, false, hedged, other = (s.value for s in reward.score(batch(*captions, references=references)))
    assert true > mixed > false
    assert hedged <= false + 0.05
    assert true > other + 0.5
    alone = reward.score(batch(captions[1], references=references))[0].value
    assert alone == pytest.approx(mixed, abs=1e-4)
    mocha = Hallucination(reward.nli).score(batch(captions[0], captions[4], references=references))
    assert mocha[0].value > mocha[1].value + 0.5
