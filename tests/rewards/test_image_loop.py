"""The image loop: its two terms, and the way from a caption to the images of its nearest texts."""

import json

import pytest
import torch

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.rewards.image_loop import ImageLoop, coherence, nearness
from rlcap.scorers.sentence_vectors import SentenceEncoder
from rlcap.types import RewardBatch, Sample

AXES = torch.eye(4)
PAIRS = [("0.png", "red"), ("1.png", "blue"), ("2.png", "green"), ("0.png", "red red")]


class Words:
    """A text's vector: the counts of red, blue and green, plus a small constant."""

    def vectors(self, texts):
        rows = [[*(float(text.split().count(word)) for word in ("red", "blue", "green")), 0.01] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows).reshape(-1, 4), dim=-1)


class Axes:
    """Image `i.png` is the unit vector e_i."""

    def image_embeddings(self, paths):
        return AXES[[int(path[0]) for path in paths]]


def judge(reward, *captions, own="0.png"):
    return reward.score(RewardBatch(list(captions), [Sample("a", own)] * len(captions)))


def test_golden_terms():
    assert coherence(AXES[:2]) == pytest.approx(0.7071, abs=1e-4)
    vectors = torch.stack([AXES[0], AXES[1], AXES[0]])
    assert nearness(AXES[0], vectors) == pytest.approx(1 + 0.25)
    assert nearness(AXES[1], vectors) == pytest.approx(0.5)


def test_golden_way_round_the_loop():
    reward = ImageLoop(Words(), Axes(), PAIRS, neighbours=1, beta=2.0)
    # "blue" finds 1.png, which may or may not resemble the own image
    assert judge(reward, "blue", own="3.png")[0].value == pytest.approx(1.0)
    twins = ImageLoop(Words(), Axes(), [("1.png", "blue"), ("2.png", "red"), ("1.jpg", "x")], neighbours=1, beta=2.0)
    assert judge(twins, "blue", own="1.gif")[0].value == pytest.approx(1 + 2 * 1)
    assert judge(reward, "")[0].value == -4


def test_the_own_image_is_left_out_and_an_image_counts_once():
    reward = ImageLoop(Words(), Axes(), PAIRS, neighbours=2)
    # the two texts nearest to "red" belong to 0.png, the own image, so that the other images remain
    assert judge(reward, "red", own="0.png")[0].value == pytest.approx(coherence(AXES[1:3]))


def test_a_gallery_is_read_from_a_file_and_must_be_large_enough(tmp_path):
    file = tmp_path / "gallery.jsonl"
    file.write_text("\n".join(json.dumps({"image": image, "caption": text}) for image, text in PAIRS))
    assert judge(ImageLoop(Words(), Axes(), str(file), neighbours=1), "red", own="3.png")[0].value == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="more gallery images than neighbours"):
        ImageLoop(Words(), Axes(), PAIRS, neighbours=3)


def test_sentence_vectors_are_means_over_tokens_whatever_the_batch():
    from transformers import AutoModel, AutoTokenizer

    folder = resolve_address("lab:nli")
    model, tokenizer = AutoModel.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)
    encoder = SentenceEncoder(model, tokenizer, batch_size=2)
    texts = ["there is a red ball.", "ball", "", "there is a red ball. " * 200]
    found = encoder.vectors(texts)
    assert found.norm(dim=-1) == pytest.approx(torch.ones(4), abs=1e-5)
    states = model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state[0].mean(0)
    assert torch.allclose(found[0], torch.nn.functional.normalize(states, dim=0), atol=1e-5)
    assert len(encoder.vectors([])) == 0
