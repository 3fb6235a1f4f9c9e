"""PickScore on a CLIP of transformers' own classes with random weights."""

import math

import pytest
import torch
from captioners import images
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from rlcap.errors import ConfigError
from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.rewards.pick_score import PickScore
from rlcap.scorers.preference import PreferenceScorer
from rlcap.types import RewardBatch, Sample


@pytest.fixture(scope="module")
def scorer():
    torch.manual_seed(0)
    tokenizer = build_tokenizer("text", 16)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**size, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0},
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )  # fmt: skip
    side = {"height": 32, "width": 32}
    processor = CLIPProcessor(CLIPImageProcessor(size=side, crop_size=side), tokenizer)
    model = CLIPModel(config)
    model.logit_scale.data.fill_(math.log(100))
    return PreferenceScorer(model, processor, batch_size=2)


def test_golden_scaled_cosine_whatever_the_batch(scorer, tmp_path):
    photos = images(3)
    texts = ["there is a red ball.", "a blue boat is at the top.", "the background is grass."]
    found = scorer.scores(photos, texts)
    inputs = scorer.processor(images=photos[0], text=texts[0], return_tensors="pt")
    with torch.inference_mode():
        assert found[0] == pytest.approx(scorer.model(**inputs).logits_per_image.item(), abs=1e-4)
    assert found == pytest.approx([scorer.scores([p], [t])[0] for p, t in zip(photos, texts, strict=True)], abs=1e-4)
    scorer.scores(photos[:2], ["ball", "ball " * 50])
    assert scorer.truncated_share == 0.5


def test_golden_arithmetic_is_the_published_one(scorer, tmp_path, monkeypatch):
    """The scale is exp(logit_scale), 100 in PickScore_v1; captions have no prefix; cosines computed by hand."""
    images(1)[0].save(tmp_path / "a.png")
    read = []
    processor = scorer.processor

    class Heard:
        tokenizer = processor.tokenizer

        def __call__(self, **inputs):
            read.append((inputs["text"], inputs["max_length"]))
            return processor(**inputs)

    monkeypatch.setattr(scorer, "processor", Heard())
    caption = "there is a red ball."
    (score,) = PickScore(scorer).score(RewardBatch([caption], [Sample("a", str(tmp_path / "a.png"))]))
    assert read == [([caption], 16)]
    inputs = processor(images=images(1), text=[caption], return_tensors="pt")
    with torch.inference_mode():
        output = scorer.model(**inputs)
    image, text = output.image_embeds[0].double(), output.text_embeds[0].double()
    cosine = float(image @ text / image.norm() / text.norm())
    assert abs(cosine) > 0.01
    assert score.value == pytest.approx(100 * cosine, abs=1e-3)


def test_rows_are_judged_alone_and_broken_images_abstain(scorer, tmp_path):
    images(1)[0].save(tmp_path / "a.png")
    good, none = Sample("a", str(tmp_path / "a.png")), Sample("b", str(tmp_path / "no.png"))
    scores = PickScore(scorer).score(
        RewardBatch(["a red ball", "", "a red ball", "a"], [good, good, none, Sample("c", "")])
    )
    assert scores[0].value == pytest.approx(scorer.scores(images(1), ["a red ball"])[0], abs=1e-4)
    assert scores[1].value == -100
    assert "no.png" in scores[2].reason
    assert scores[3].reason == "no image path"


def test_a_model_that_is_nowhere():
    with pytest.raises(ConfigError, match="preference model 'nowhere'"):
        PickScore("nowhere")
