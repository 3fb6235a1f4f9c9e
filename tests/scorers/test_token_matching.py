"""Greedy matching on vectors matched by hand, and on a tiny encoder."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from rlcap.scorers.token_matching import TokenMatchingScorer, greedy_f1, idf_weights, rescale

X, Y = [1.0, 0.0], [0.0, 1.0]


def test_greedy_f1_golden():
    precision, recall, f1 = greedy_f1(torch.tensor([X, X]), torch.tensor([X, Y]))
    assert (precision, recall) == (1.0, 0.5)
    assert f1 == pytest.approx(2 / 3)
    slanted = torch.tensor([[0.6, 0.8]])
    assert greedy_f1(slanted, torch.tensor([X, Y])) == pytest.approx((0.8, 0.7, 2 * 0.56 / 1.5))


def test_greedy_f1_with_idf_golden():
    _, recall, _ = greedy_f1(torch.tensor([X]), torch.tensor([X, Y]), None, torch.tensor([3.0, 1.0]))
    assert recall == 0.75


def test_no_tokens_and_opposite_tokens_give_zero():
    assert greedy_f1(torch.zeros(0, 2), torch.tensor([X])) == (0, 0, 0)
    assert greedy_f1(torch.tensor([X]), -torch.tensor([X]))[2] == 0


def test_rescale_golden():
    assert rescale(0.85, 0.7) == pytest.approx(0.5)
    assert rescale(1.0, 0.7) == 1
    with pytest.raises(ValueError, match="a baseline must lie in"):
        rescale(0.5, 1.0)


def test_idf_golden():
    weights = idf_weights([[1, 1, 2], [1, 3]])
    assert weights[1] == 0
    assert weights[2] == pytest.approx(math.log(3 / 2))


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "ball", "dog", "sleeps"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.model_max_length = 32
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    return BertModel(config), tokenizer


def test_itself_is_perfect_and_the_best_reference_counts(parts):
    scorer = TokenMatchingScorer(*parts)
    same, other = scorer.best_f1(["a red ball", "a red ball"], [["a dog sleeps", "a red ball"], ["a dog sleeps"]])
    assert same == pytest.approx(1, abs=1e-5)
    assert other < 0.9


def test_missing_references_empty_captions_and_baseline(parts):
    scorer = TokenMatchingScorer(*parts, baseline=0.5)
    assert scorer.best_f1(["a ball", "a ball", ""], [[], ["", " "], ["a ball"]]) == [None, None, -1.0]


def test_neighbours_change_nothing(parts):
    scorer = TokenMatchingScorer(*parts, batch_size=2)
    captions, references = ["a red ball", "dog", "a dog sleeps a dog"], [["a blue ball"]] * 3
    together = scorer.best_f1(captions, references)
    alone = [scorer.best_f1([c], [r])[0] for c, r in zip(captions, references, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert scorer.best_f1(captions[::-1], references)[::-1] == pytest.approx(together, abs=1e-5)


def test_the_layer_defaults_to_a_third_of_the_depth_and_can_be_chosen(parts):
    assert TokenMatchingScorer(*parts).layer == 1
    first, last = (
        TokenMatchingScorer(*parts, layer=layer).best_f1(["a red ball"], [["a blue ball"]])[0] for layer in (0, -1)
    )
    assert first != last


def test_idf_weighs_rare_words_more(parts):
    tokenizer = parts[1]
    common, rare = (tokenizer.convert_tokens_to_ids(word) for word in ("a", "dog"))
    plain = TokenMatchingScorer(*parts, layer=0)
    weighted = TokenMatchingScorer(*parts, layer=0, idf={common: 0.1, rare: 5.0})
    caption, references = ["a ball"], [["a dog"]]
    assert weighted.best_f1(caption, references)[0] < plain.best_f1(caption, references)[0]


def test_unrelated_baseline_lies_below_one_and_long_texts_are_counted(parts):
    scorer = TokenMatchingScorer(*parts)
    assert 0 < scorer.unrelated_f1(["a red ball", "a dog sleeps", "blue"]) < 1
    with pytest.raises(ValueError, match="at least two images"):
        scorer.unrelated_f1(["a"])
    scorer.best_f1(["dog " * 3000], [["a dog"]])
    assert scorer.truncated_share == 0.5
