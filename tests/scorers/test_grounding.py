"""Grounding: doubt golden, words of a tiny encoder, and a real one where there is one."""

from pathlib import Path

import pytest
import torch
from fake_models import OneHot

from rlcap.scorers.grounding import Grounding, caption_cost, grounded_sentences, power_mean, word_doubts

REAL = Path(__file__).parents[2].parent / "shared" / "real" / "nli-minilm"


def grounded_costs(nli, grounding, captions, references, unsupported):
    rows = grounded_sentences(nli, grounding, captions, references, unsupported)
    return [caption_cost(sentences, grounding.worst) for sentences in rows]


class Undecided:
    """Nothing is entailed, nothing contradicted."""

    def probabilities(self, premises, hypotheses):
        return torch.tensor([[0.0, 1.0, 0.0]]).repeat(len(premises), 1)


def grounding(**numbers):
    return Grounding(OneHot(), **numbers)


def test_word_doubts_golden():
    assert word_doubts(torch.tensor([-1.0, 0.2, 0.6, 1.0]), 0.2).tolist() == pytest.approx([1, 1, 0.5, 0])


def test_power_mean_golden():
    doubts = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert power_mean(doubts, 1) == 0.25
    assert power_mean(doubts, 2) == 0.5
    assert power_mean(doubts, 50) == pytest.approx(0.97, abs=0.01)


def test_the_best_reference_counts_word_by_word_and_empty_words_claim_nothing():
    actual = grounding().support(["There is a red dog on the sofa."], [["A red ball", "dog on sofa"]])[0]
    assert actual == [("red", 1.0), ("dog", 1.0), ("on", 1.0), ("sofa", 1.0)]
    assert grounding().doubts(["red dog on cat"], [["red dog on sofa"]]) == [pytest.approx(0.25)]
    assert grounding(power=2.0).doubts(["red dog on cat"], [["red dog on sofa"]]) == [pytest.approx(0.5)]


@pytest.mark.parametrize("wrong", ["a blue ball on grass", "three red ball on grass", "a red ball under grass"])
def test_a_wrong_attribute_count_or_place_is_doubted(wrong):
    right, doubted = grounding().doubts(["a red ball on grass", wrong], [["red ball on grass"]] * 2)
    assert right == 0 < doubted


def test_nothing_to_judge_and_nothing_to_rest_on():
    assert grounding().doubts(["", "...", "it is"], [["a dog"]] * 3) == [None] * 3
    assert grounded_costs(Undecided(), grounding(), ["It is."], [["a dog"]], 0.2) == [pytest.approx(0.2)]
    assert grounding().doubts(["dog"], [["", "!"]]) == [1]


def test_the_share_weighs_words_against_the_nli_model():
    ask = lambda share: grounded_costs(Undecided(), grounding(share=share), ["cat"], [["dog"]], 0.2)  # noqa: E731
    assert ask(0.0) == pytest.approx([0.2])
    assert ask(1.0) == pytest.approx([1.0])
    assert ask(0.25) == pytest.approx([0.4])


def test_sentences_are_judged_alone_and_saying_one_twice_changes_nothing():
    once, twice = grounded_costs(
        Undecided(), grounding(share=1.0, worst=1.0), ["Dog. Cat.", "Dog. Dog. Dog. Cat."], [["dog"]] * 2, 0.2
    )
    assert once == twice == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [({"chance": 1.0}, "chance must lie in"), ({"power": 0.5}, "power must be at least 1"), ({"worst": 0}, "worst must be at least 1"), ({"share": 2}, "share must lie in")],
)  # fmt: skip
def test_bad_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        grounding(**numbers)


@pytest.fixture(scope="module")
def real():
    if not REAL.is_dir():
        pytest.skip("no real NLI model")
    from rlcap.scorers.nli import NliScorer

    return Grounding.from_nli(NliScorer.load(str(REAL)))


def test_words_are_parted_and_put_together_again(real):
    words, vectors = real.encoder.word_vectors(["A man's snowboarding-trick, in Zürich!"])[
        "A man's snowboarding-trick, in Zürich!"
    ]
    assert words == ["a", "man", "s", "snowboarding", "trick", "in", "zürich"]
    assert vectors.shape[0] == 7
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(7))


def test_odd_texts_pass_and_neighbours_change_nothing(real):
    texts = ["", "😀 \ud800", "a dog " * 1000, "A dog sleeps.", "犬が寝ている"]
    references = [["A dog is asleep on a bed.", "A puppy naps."]] * len(texts)
    together = real.doubts(texts, references)
    assert together[:2] == [None, None]
    alone = [real.doubts([text], [row])[0] for text, row in zip(texts, references, strict=True)]
    assert together[2:] == pytest.approx(alone[2:], abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        "A brown cat lies on a red couch.",
        "A brown dog lies on a green couch.",
        "Three brown dogs lie on a red couch.",
        "A brown dog lies on a red truck.",
        "A brown dog jumps over a red couch.",
    ],
)
def test_a_real_encoder_doubts_the_wrong_word(real, wrong):
    references = ["A brown dog lying on a red sofa.", "A dog is sleeping on the couch in a living room."]
    right, doubted = real.doubts(["A brown dog lies on a red couch.", wrong], [references] * 2)
    assert doubted > right + 0.05


def test_a_count_in_figures_is_the_count_in_words():
    ask = lambda caption: grounded_costs(Undecided(), grounding(), [caption], [["two red ball"]], 0.2)  # noqa: E731
    assert ask("2 red ball") == ask("two red ball") < ask("3 red ball")


def test_true_sentences_do_not_dilute_a_false_one():
    ask = lambda caption, **numbers: grounded_costs(  # noqa: E731
        Undecided(), grounding(share=1.0, **numbers), [caption], [["red ball", "blue cup"]], 0.2
    )[0]
    assert ask("Green tree.") == 1
    assert ask("Red ball. Blue cup. Green tree.", worst=1.0) == pytest.approx(1 / 3)
    assert ask("Red ball. Blue cup. Green tree.", worst=4.0) == pytest.approx((1 / 3) ** 0.25)


def test_coverage_golden():
    # red, ball (twice), two, cup: three of the five words are covered
    actual = grounding().coverage(["a red ball", "", "Two cups"], [["red ball", "two ball cup"]] * 3)
    assert actual == pytest.approx([3 / 5, 0, 1 / 5])
    assert grounding(chance=0.5).coverage(["red"], [["red cup"]]) == pytest.approx([0.5])
    assert grounding().coverage(["red", "red"], [["it is", "!"], []]) == [None, None]
