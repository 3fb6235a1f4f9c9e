"""A frozen captioner as a listener: shared passes against plain ones, for every family."""

from __future__ import annotations

import captioners
import pytest
import torch
from peft import LoraConfig, get_peft_model

from rlcap.policy.families.registry import make_captioner
from rlcap.policy.listener import Listener, has_frozen_base


@pytest.fixture
def paths(tmp_path):
    files = []
    for i, image in enumerate(captioners.images(3)):
        image.save(tmp_path / f"{i}.png")
        files.append(str(tmp_path / f"{i}.png"))
    return files


def plain(captioner, instruction, caption, path):
    """The log-probabilities of one caption given one image, in a pass of its own."""
    from rlcap.io.images import open_image

    ids = torch.tensor([captioner.encode(caption, instruction)])
    prompts = captioner.prepare([open_image(path)], instruction)
    with torch.no_grad():
        return captioner.log_probs(prompts, ids, torch.ones_like(ids), shared=False).log_probs[0].float()


def test_every_family_hears_what_plain_passes_give(loaded, paths):
    captioner = make_captioner(*loaded)
    captioner.model.eval()
    captions = ["a red ball", "a dog runs on grass", "a cat"]
    rows = [[paths[0], paths[1]], [paths[0], paths[1]], [paths[2], paths[0], paths[1]]]
    listener = Listener(captioner, "describe", batch_size=2)
    heard = listener.hear(captions, rows)
    for caption, row, one in zip(captions, rows, heard, strict=True):
        assert one.log_probs.shape == (len(row), len(captioner.encode(caption, "describe")))
        assert len(one.offsets) == one.log_probs.shape[1]
        for j, path in enumerate(row):
            torch.testing.assert_close(
                one.log_probs[j], plain(captioner, "describe", caption, path), atol=2e-4, rtol=1e-3
            )
    assert listener.passes == 2 + 2  # one image with two captions, or two images with one, in a pass


def test_the_adapter_is_off_and_stays_trainable(tmp_path, paths):
    model, processor = captioners.build("llava", tmp_path / "model")
    captioner = make_captioner(model, processor)
    expected = Listener(captioner, "describe").hear(["a dog"], [paths[:2]])[0].log_probs
    tuned = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.train()
    captioner = make_captioner(tuned, processor)
    assert has_frozen_base(tuned)
    heard = Listener(captioner, "describe").hear(["a dog"], [paths[:2]])[0].log_probs
    torch.testing.assert_close(heard, expected)
    with_adapter = Listener(captioner, "describe", adapter="default").hear(["a dog"], [paths[:2]])[0].log_probs
    assert not torch.allclose(with_adapter, expected)
    assert tuned.training
    assert any(p.requires_grad for p in tuned.parameters())


def test_a_base_that_is_trained_does_not_listen(tmp_path):
    model, _ = captioners.build("llava", tmp_path / "model")
    assert not has_frozen_base(model)
    tuned = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    assert has_frozen_base(tuned)
    next(p for name, p in tuned.named_parameters() if "lora" not in name).requires_grad_(True)
    assert not has_frozen_base(tuned)


def test_offsets_are_characters_of_the_caption(tmp_path):
    model, processor = captioners.build("llava", tmp_path / "model")
    captioner = make_captioner(model, processor)
    caption = "a dog runs on grass"
    for instruction in ("describe", ""):
        ids, offsets = captioner.encode_with_offsets(caption, instruction)
        assert ids == captioner.encode(caption, instruction)
        assert [caption[start:end].strip() for start, end in offsets[:-1]] == caption.split()
        assert offsets[-1] == (len(caption), len(caption))
