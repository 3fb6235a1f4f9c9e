"""Grammar: golden values of the pooling, and the lab's classifier at work."""

import math

import pytest
import torch

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.rewards.grammar import Grammar
from rlcap.types import RewardBatch, Sample


class Fixed:
    """A scorer with a given P(grammatical) for each text."""

    def __init__(self, values):
        self.values = values

    def probabilities(self, texts):
        return torch.tensor([self.values[text] for text in texts])


class Surprised:
    words = 100

    def log_probs(self, texts):
        return torch.tensor([-2.5 if text else math.nan for text in texts])


def judge(reward, *captions):
    batch = RewardBatch(list(captions), [Sample("a", "")] * len(captions), [()] * len(captions))
    return [score.value for score in reward.score(batch)]


def test_golden_mean_over_sentences():
    reward = Grammar(Fixed({"A dog.": 0.95, "Dog a.": 0.45, "Sure.": 0.9}))
    assert judge(reward, "A dog. Dog a.") == pytest.approx([(1 + 0.5) / 2])
    assert judge(reward, "Sure.", "") == pytest.approx([1.0, 0.0])
    assert judge(Grammar(Fixed({"A dog.": 0.95}), sure=1.0), "A dog.") == pytest.approx([0.95])


def test_golden_log_probability_and_the_empty_caption():
    assert judge(Grammar(Surprised(), form="language_model"), "a dog", " ") == pytest.approx([-2.5, -math.log(100)])


def test_the_lab_model_distinguishes_prose_from_shuffled_and_cut_text():
    reward = Grammar(resolve_address("lab:grammar"))
    prose, word_shuffle, cut = judge(
        reward,
        "there is a red ball at the top. the boat is to the left of the bird.",
        "boat bird red ball top blue left a there the",
        "there is a red ball at the top. the boat is to the",
    )
    assert prose > 0.95
    assert word_shuffle < 0.1
    assert cut < 0.7


def test_choices_that_cannot_be():
    with pytest.raises(ValueError, match="form must be"):
        Grammar(Fixed({}), form="perplexity")
    with pytest.raises(ValueError, match="sure is a probability"):
        Grammar(Fixed({}), sure=0)
    with pytest.raises(ConfigError, match="grammar model"):
        Grammar("nowhere/at-all")
