"""The memory check uses the largest image, and finds the largest micro-batch that fits."""

import pytest
import torch
from captioners import build
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from rlcap.data.batching import plan
from rlcap.errors import BatchingError
from rlcap.policy.families.registry import make_captioner
from rlcap.train.memory_check import check_memory


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build("qwen2_5_vl", folder)
    return make_captioner(AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, size in {"small": (28, 28), "wide": (140, 56), "tall": (28, 84)}.items():
        Image.new("RGB", size).save(folder / f"{name}.png")
    return sorted(map(str, folder.glob("*.png")))


def test_the_check_uses_the_largest_image(captioner, photos):
    found = check_memory(captioner, photos, plan(2, 4, 8), "describe", 5)
    assert (found.width, found.height) == (140, 56)
    assert found.visual_tokens > captioner.visual_tokens(Image.new("RGB", (28, 28)))
    assert 0 < found.peak < found.total
    assert "memory check: 8 captions of 5 tokens for the largest image (140 × 56" in found.describe()
    assert all(parameter.grad is None for parameter in captioner.model.parameters())


def test_the_error_names_the_micro_batch_that_fits(captioner, photos, monkeypatch):
    log_probs, tried = type(captioner).log_probs, []

    def limited(self, prompts, ids, mask, **options):
        tried.append((len(prompts), len(ids)))
        if len(ids) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return log_probs(self, prompts, ids, mask, **options)

    monkeypatch.setattr(type(captioner), "log_probs", limited)
    with pytest.raises(
        BatchingError, match=r"16 captions of 5 tokens for .*wide.png .*4 captions do: set train.micro_batch=4"
    ):
        check_memory(captioner, photos, plan(4, 4, 16), "describe", 5)
    assert tried == [(4, 16), (2, 8), (1, 4)]
    monkeypatch.setattr(type(captioner), "log_probs", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(BatchingError, match="a single caption"):
        check_memory(captioner, photos, plan(2, 4, 8), "describe", 5)
