"""The NLI scorer on a tiny random model with an unusual label order, and on a real one where there is one."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from rlcap.errors import ConfigError
from rlcap.scorers.nli import NliScorer, find_label_columns

REAL = Path(__file__).parents[2].parent / "shared" / "real" / "nli-minilm"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "ball", "dog", "the", "sleeps"]


def tiny(labels=("contradiction", "entailment", "neutral"), max_tokens=24):
    torch.manual_seed(0)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=max_tokens,
    )
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=max_tokens,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    return BertForSequenceClassification(config), tokenizer


def test_labels_are_read_by_name_in_any_order_and_case():
    assert find_label_columns({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}) == (2, 1, 0)
    assert find_label_columns({0: "entail", 1: "contra", 2: "neutral"}) == (0, 2, 1)


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, {0: "entailment", 1: "not_entailment"}])
def test_other_models_are_refused_with_their_labels(labels):
    with pytest.raises(ValueError, match=f"not a three-way NLI model: its labels are .*{labels[0]}"):
        find_label_columns(labels)


def test_columns_are_entailment_neutral_contradiction():
    model, tokenizer = tiny()
    encoded = tokenizer("a red ball", "a dog", return_tensors="pt")
    own = model.eval()(**encoded).logits.softmax(-1)[0]
    actual = NliScorer(model, tokenizer).probabilities(["a red ball"], ["a dog"])
    torch.testing.assert_close(actual[0], own[[1, 2, 0]])
    assert actual.sum() == pytest.approx(1)


def test_batches_padding_and_order_change_nothing_and_equal_pairs_are_equal_to_the_bit():
    scorer = NliScorer(*tiny(), batch_size=2)
    premises = ["a red ball", "the dog sleeps a red ball", "a", "a red ball", ""]
    hypotheses = ["a dog", "the dog", "blue ball", "a dog", "a"]
    together = scorer.probabilities(premises, hypotheses)
    alone = torch.cat([scorer.probabilities([p], [h]) for p, h in zip(premises, hypotheses, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert torch.equal(together[0], together[3])
    assert scorer.probabilities([], []).shape == (0, 3)


def test_each_pair_is_judged_once():
    scorer = NliScorer(*tiny())
    seen = []
    forward = scorer.model.forward
    scorer.model.forward = lambda **inputs: (seen.append(len(inputs["input_ids"])), forward(**inputs))[1]
    scorer.probabilities(["a", "a", "a"], ["dog", "dog", "ball"])
    assert sum(seen) == 2


def test_a_long_premise_is_cut_before_the_claim_and_counted():
    scorer = NliScorer(*tiny(max_tokens=24))
    actual = scorer.probabilities(["a " * 100, "a"], ["the dog sleeps", "the dog"])
    assert scorer.truncated_share == 0.5
    kept = scorer.probabilities(["a " * 18], ["the dog sleeps"])  # 18 + 3 words + 3 special tokens = 24
    assert scorer.truncated_share == 0
    torch.testing.assert_close(actual[0], kept[0])
    scorer.probabilities(["a"], ["dog " * 5000])
    assert scorer.truncated_share == 1


def test_lengths_must_match():
    with pytest.raises(ValueError, match="1 premises for 2 hypotheses"):
        NliScorer(*tiny()).probabilities(["a"], ["a", "b"])


def test_empty_weights_are_refused():
    model, tokenizer = tiny()
    model.classifier.weight = torch.nn.Parameter(torch.zeros(3, 0))
    with pytest.raises(ValueError, match=r"some weights are empty .classifier\.weight"):
        NliScorer(model, tokenizer)


def test_a_missing_model_is_reported_in_one_line():
    with pytest.raises(ConfigError, match="NLI model '/nowhere': there is no such file or folder") as error:
        NliScorer.load("/nowhere")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real NLI model")
def test_real_model():
    scorer = NliScorer.load(str(REAL))
    actual = scorer.probabilities(
        ["A man plays a guitar on stage."] * 3,
        ["A man plays an instrument.", "The man is famous.", "The man is sleeping in bed."],
    )
    assert actual.argmax(1).tolist() == [0, 1, 2]


def test_a_pair_that_is_cut_changes_none_behind_it():
    from rlcap.io.addresses import resolve_address

    scorer = NliScorer.load(resolve_address("lab:nli"))
    long = ["there is a red ball. " * 100, "there is a blue boat. " * 60, "a"]
    claims = ["there is a red ball.", "there is a ball. " * 50, "there is a bird."]
    together = scorer.probabilities(long, claims)
    assert scorer.truncated_share == pytest.approx(2 / 3)
    alone = torch.cat([scorer.probabilities([p], [h]) for p, h in zip(long, claims, strict=True)])
    assert torch.allclose(together, alone, atol=1e-5)
