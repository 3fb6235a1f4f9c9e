"""VQAScore: what is asked, how sentences are pooled, and the probability itself on a real class."""

import math
from types import SimpleNamespace

import captioners
import pytest
import torch
from captioners import images
from transformers import AutoModelForImageTextToText, AutoProcessor, BatchFeature

from rlcap.errors import ConfigError
from rlcap.rewards.vqa_score import VqaScore
from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer
from rlcap.types import RewardBatch, Sample


class Believer:
    """P(yes) depends on the length of the question."""

    def __init__(self):
        self.asked = []

    def probabilities(self, images, questions):
        self.asked += questions
        return [len(question) % 10 / 10 for question in questions]


PIECES = {"▁": 3, "Yes": 4, "yes": 5, "▁Yes": 6, "▁yes": 7, "No": 8, "no": 9, "▁No": 10, "▁no": 11}
LOGITS = {"Yes": 2.0, "yes": 1.0, "▁Yes": 1.5, "▁yes": 0.5, "No": 2.5, "▁": 3.0}
"""Logits of the first token of the answer; 0 for all others."""


class Answering:
    """Model and processor in one: the same logits for every question, with a tokenizer of whole words.

    parted: a word after a space becomes two tokens, a space and the word, as in Llama's tokenizer."""

    device, dtype, chat_template = "cpu", torch.float32, "{{ messages }}"

    def __init__(self, parted=False):
        self.parted, self.seen = parted, []
        self.tokenizer = type("Tokens", (), {"unk_token_id": 0, "__call__": lambda _, text, **__: self.encode(text)})()

    def encode(self, text):
        word = text.removeprefix(" ")
        ids = [PIECES["▁"], PIECES[word]] if self.parted and text != word else [PIECES[text.replace(" ", "▁")]]
        return {"input_ids": ids}

    def apply_chat_template(self, rows, **_):
        self.seen += [part["text"] for row in rows for part in row[-1]["content"] if part["type"] == "text"]
        return BatchFeature({"input_ids": torch.zeros(len(rows), 1, dtype=torch.long)})

    def eval(self):
        return self

    def requires_grad_(self, _):
        return self

    def __call__(self, input_ids, logits_to_keep):
        row = torch.zeros(12)
        for piece, logit in LOGITS.items():
            row[PIECES[piece]] = logit
        return SimpleNamespace(logits=row.expand(len(input_ids), 1, 12))


def yes_share(*pieces):
    """The softmax over twelve tokens, computed by hand."""
    total = sum(math.exp(logit) for logit in LOGITS.values()) + 12 - len(LOGITS)
    return sum(math.exp(LOGITS[piece]) for piece in pieces) / total


def test_golden_probability_is_that_of_yes_among_all_tokens(photos):
    """The denominator holds "No" and all other tokens, and the numerator every spelling of yes."""
    model = Answering()
    (score,) = judge(VqaScore(YesProbabilityScorer(model, model)), ["A bus."], photos[0])
    assert score.value == pytest.approx(yes_share("Yes", "yes", "▁Yes", "▁yes"), abs=1e-6)
    assert model.seen == ['Does this figure show "A bus."? Please answer yes or no.']


def test_a_space_before_the_answer_is_no_yes(photos):
    model = Answering(parted=True)
    (score,) = judge(VqaScore(YesProbabilityScorer(model, model)), ["A bus."], photos[0])
    assert score.value == pytest.approx(yes_share("Yes", "yes"), abs=1e-6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(images(2)):
        image.save(folder / f"{i}.png")
    return [str(folder / f"{i}.png") for i in range(2)]


def judge(reward, captions, path):
    return reward.score(RewardBatch(captions, [Sample("a", path)] * len(captions)))


def test_golden_question_and_pooling(photos):
    model = Believer()
    (score,) = judge(VqaScore(model), ['A "red" bus.'], photos[0])
    assert model.asked == ["Does this figure show \"A 'red' bus.\"? Please answer yes or no."]
    assert score.value == len(model.asked[0]) % 10 / 10
    lengths = [len(model.asked[0].replace("A 'red' bus.", text)) % 10 / 10 for text in ("A bus.", "It waits.")]
    two = ["A bus. It waits."]
    assert judge(VqaScore(model), two, photos[0])[0].value == pytest.approx(sum(lengths) / 2)
    assert judge(VqaScore(model, pooling="least"), two, photos[0])[0].value == min(lengths)
    assert judge(VqaScore(model), [""], photos[0])[0].value == 0


def test_probability_is_that_of_the_first_token_whatever_the_batch(tmp_path, photos):
    captioners.build("qwen2_5_vl", tmp_path)
    model, processor = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    processor.tokenizer.add_tokens(["Yes"])
    model.resize_token_embeddings(len(processor.tokenizer))
    scorer = YesProbabilityScorer(model, processor)
    asked = ["a red ball ?", "a red ball and a red ball and a red ball ?"]
    both = scorer.probabilities(images(2), asked)
    assert both == pytest.approx(
        [scorer.probabilities([image], [q])[0] for image, q in zip(images(2), asked, strict=True)], abs=1e-5
    )
    message = [
        {"role": "user", "content": [{"type": "image", "image": images(2)[0]}, {"type": "text", "text": asked[0]}]}
    ]
    inputs = processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        wanted = model(**inputs).logits[0, -1].softmax(-1)[scorer.ids].sum().item()
    assert both[0] == pytest.approx(wanted, abs=1e-6)


def test_invalid_options_are_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"must hold \{caption\}"):
        VqaScore(Believer(), question="Is it so?")
    with pytest.raises(ValueError, match="mean or least"):
        VqaScore(Believer(), pooling="max")
    with pytest.raises(ConfigError, match="vision-language model 'nowhere'"):
        VqaScore("nowhere")
