"""VQAScore: what is asked, how sentences are pooled, and the probability itself on a real class."""

import captioners
import pytest
import torch
from captioners import images
from transformers import AutoModelForImageTextToText, AutoProcessor

from rewards.vqa_score import VqaScore
from rlcap.scorers.yes import YesScorer
from rlcap.types import ConfigError, RewardBatch, Sample


class Believer:
    """Believes a question by its length."""

    def __init__(self):
        self.asked = []

    def probabilities(self, images, questions):
        self.asked += questions
        return [len(question) % 10 / 10 for question in questions]


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
    scorer = YesScorer(model, processor)
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


def test_what_cannot_be_asked_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold \{caption\}"):
        VqaScore(Believer(), question="Is it so?")
    with pytest.raises(ValueError, match="mean or least"):
        VqaScore(Believer(), pooling="max")
    with pytest.raises(ConfigError, match="vision-language model 'nowhere'"):
        VqaScore("nowhere")
