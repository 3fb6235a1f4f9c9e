import json
import random

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.lab.models.grammar import new_classifier, save_classifier, well_formed
from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.scorers.grammar import AcceptabilityScorer, LikelihoodScorer, find_acceptable_column, max_readable_tokens
from rlcap.scorers.training import text_corruption as corruption
from rlcap.scorers.training.grammar import accuracy, fine_tune, generate_pairs, select_usable_sentences
from rlcap.scorers.training.text_corruption import WAYS, corrupt

WORDS = ["a", "red", "dog", "sleeps", "beside", "the", "old", "bus"]


@pytest.fixture(scope="module")
def language_model():
    """A GPT-2 of random weights on the lab's words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = build_tokenizer("none", 64)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    return GPT2LMHeadModel(config), tokenizer


@pytest.mark.parametrize("name", WAYS)
def test_each_way_spoils_as_published(name):
    rng = random.Random(0)
    lengths = set()
    for _ in range(200):
        corrupted = WAYS[name](list(WORDS), rng, ["zebra"])
        lengths.add(len(corrupted) - len(WORDS))
        if name in ("swap", "shuffle"):
            assert sorted(corrupted) == sorted(WORDS)
        if name == "insert":
            assert [word for word in corrupted if word != "zebra"] == WORDS
    expected = {"repeat": set(range(1, 10)) - {5, 7, 8}, "remove": {-1, -2, -3}, "insert": {1, 2, 3}}
    assert lengths == expected.get(name, {0})


def test_a_repeated_ngram_stands_behind_itself():
    rng = random.Random(3)
    for _ in range(50):
        corrupted = corruption.repeat(list(WORDS), rng)
        assert any(
            corrupted[i : i + n] == corrupted[i + n : i + 2 * n]
            for n in (1, 2, 3)
            for i in range(len(corrupted) - 2 * n + 1)
        )


def test_a_sentence_that_cannot_be_corrupted_gives_none():
    assert corrupt("", random.Random(0), ["a"]) is None
    assert corrupt("dog", random.Random(0), ["a"]) != "dog"


def test_pairs_pass_over_what_is_still_well_formed():
    pairs = generate_pairs(["there is a red ball.", "a blue boat is at the top."], random.Random(0), well_formed)
    for _, (good, corrupted) in zip(range(100), pairs, strict=False):
        assert well_formed(good)
        assert not well_formed(corrupted)


def test_the_column_is_read_from_names_or_said():
    assert find_acceptable_column({0: "corrupted", 1: "grammatical"}) == 1
    assert find_acceptable_column({0: "ACCEPTABLE", 1: "unacceptable"}) == 0
    assert find_acceptable_column({0: "LABEL_0", 1: "LABEL_1"}, 1) == 1
    with pytest.raises(ValueError, match="give its number"):
        find_acceptable_column({0: "LABEL_0", 1: "LABEL_1"})
    with pytest.raises(ValueError, match="no label 2"):
        find_acceptable_column({0: "LABEL_0", 1: "LABEL_1"}, 2)


def test_probabilities_are_the_models_own_whatever_the_batch():
    model, tokenizer = new_classifier(0).eval(), build_tokenizer("text", 96)
    texts = ["there is a ball.", "ball a", "there is a ball.", "x " * 500]
    scorer = AcceptabilityScorer(model, tokenizer, batch_size=2)
    actual = scorer.probabilities(texts)
    for text, value in zip(texts, actual, strict=True):
        encoded = tokenizer(text, truncation=True, max_length=96, return_tensors="pt")
        assert model(**encoded).logits.softmax(-1)[0, 1].item() == pytest.approx(value.item(), abs=1e-6)
    assert actual[0] == actual[2]
    assert scorer.probabilities([]).shape == (0,)


def test_log_probs_are_the_mean_over_tokens_golden(language_model):
    model, tokenizer = language_model
    scorer = LikelihoodScorer(model, tokenizer, batch_size=2)
    texts = ["there is a red ball.", "ball", "", "there is a red ball."]
    actual = scorer.log_probs(texts)
    ids = torch.tensor([[1, *tokenizer(texts[0], add_special_tokens=False)["input_ids"]]])
    each = model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
    assert actual[0].item() == pytest.approx(each.mean().item(), abs=1e-5)
    assert actual[2].isnan()
    assert actual[0] == actual[3]
    assert torch.isfinite(scorer.log_probs(["ball " * 5_000])).all()


def test_robertas_positions_begin_behind_its_padding():
    from transformers import RobertaConfig, RobertaForSequenceClassification

    tokenizer = build_tokenizer("text", 512)
    config = RobertaConfig(
        vocab_size=200, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=20, pad_token_id=1, id2label={0: "unacceptable", 1: "acceptable"},
    )  # fmt: skip
    model = RobertaForSequenceClassification(config)
    assert max_readable_tokens(model, tokenizer) == 18
    assert AcceptabilityScorer(model, tokenizer).probabilities(["a b c " * 50]).isfinite().all()


def test_the_labs_classifier_separates_sentences_from_shuffled_words():
    scorer = AcceptabilityScorer.load(resolve_address("lab:grammar"))
    good, shuffled = scorer.probabilities(
        ["there is a large red ball at the top.", "ball the red is large top a there at"]
    )
    assert good > 0.9
    assert shuffled < 0.1
    assert accuracy(scorer, [("there is a red ball.", "red a there ball is")]) == 1.0


def test_teaching_writes_a_classifier_that_loads(tmp_path):
    save_classifier(new_classifier(1), tmp_path / "encoder")
    colours, things = ("red", "blue", "green", "black", "white"), ("ball", "cat", "bird", "car", "boat", "lamp", "tree")
    texts = [f"there is a {c} {t} and a {o}." for c in colours for t in things for o in things]
    right = fine_tune(str(tmp_path / "encoder"), texts, tmp_path / "taught", steps=150, learning_rate=2e-3)
    assert right > 0.8
    scorer = AcceptabilityScorer.load(str(tmp_path / "taught"))
    good, bad = scorer.probabilities(["there is a red ball and a cat.", "a a red cat ball is is"])
    assert good > bad


def test_an_encoder_under_another_classifiers_head_can_be_taught(tmp_path):
    model = new_classifier(1)
    model.config.num_labels = 3
    model.classifier = torch.nn.Linear(model.classifier.in_features, 3)
    save_classifier(model, tmp_path / "nli")
    fine_tune(
        str(tmp_path / "nli"), [f"there is a red ball and {i} cats." for i in range(200)], tmp_path / "taught", steps=2
    )
    assert AcceptabilityScorer.load(str(tmp_path / "taught")).probabilities(["there is a ball."]).isfinite().all()


def test_other_weights_must_fit(tmp_path):
    save_classifier(new_classifier(1), tmp_path / "encoder")
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    (tmp_path / "encoder" / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 8}))
    with pytest.raises(
        ConfigError, match=r"weights with shapes that differ from the config: bert\.embeddings\.word_embeddings"
    ):
        fine_tune(
            str(tmp_path / "encoder"),
            [f"there is a ball and {i} cats." for i in range(200)],
            tmp_path / "taught",
            steps=2,
        )


def test_an_encoder_of_short_texts_is_taught_on_their_beginnings(tmp_path):
    config = BertConfig(
        vocab_size=200, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, pad_token_id=0,
        max_position_embeddings=12,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "short")
    build_tokenizer("text", 512).save_pretrained(tmp_path / "short")
    fine_tune(
        str(tmp_path / "short"), [f"{'a ball and ' * 9} {i} cats." for i in range(200)], tmp_path / "taught", steps=2
    )


def test_teaching_refuses_what_cannot_work(tmp_path):
    assert select_usable_sentences(["A dog. A dog. Run."]) == ["A dog."]
    with pytest.raises(ConfigError, match="at least 100 distinct sentences, got 1"):
        fine_tune("nowhere", ["A dog sleeps."], tmp_path)
    with pytest.raises(ConfigError, match="--encoder 'nowhere'"):
        fine_tune("nowhere", [f"a dog number {i}" for i in range(200)], tmp_path)
