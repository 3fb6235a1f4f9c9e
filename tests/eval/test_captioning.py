"""Greedy captioning has no side effects on random states, training flags and padding side."""

import random
import re

import numpy as np
import pytest
import torch
from tiny import captioner, lab_samples
from transformers import BertConfig, BertLMHeadModel

from rlcap.errors import ConfigError
from rlcap.eval.captioning import caption_samples


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return *captioner(), lab_samples(tmp_path_factory.mktemp("lab"), 7)


def captions(world, **options):
    model, processor, samples = world
    return caption_samples(
        model, processor, samples, **{"instruction": "describe the image in detail .", "max_new_tokens": 8} | options
    )


def test_one_caption_per_image_for_every_batch_size(world):
    found = captions(world)
    assert len(found) == 7
    assert all(isinstance(text, str) and "<" not in text for text in found)
    assert captions(world, batch_size=3) == found == captions(world)


def test_the_instruction_and_the_image_are_seen(world):
    model, processor, _ = world
    texts, seen = [], []
    get_image_features, forward = model.model.get_image_features, model.forward

    def spy_on_images(**inputs):
        seen.append(inputs["pixel_values"])
        return get_image_features(**inputs)

    def spy_on_text(**inputs):
        texts.append(processor.tokenizer.decode(inputs["input_ids"][0]))
        return forward(**inputs)

    model.model.get_image_features, model.forward = spy_on_images, spy_on_text
    captions(world, batch_size=7)
    del model.model.get_image_features, model.forward
    assert re.search(r"<image> describe the image in detail ?\. assistant :$", texts[0])
    assert not torch.equal(seen[0][0], seen[0][1])


def test_random_states_and_training_flags_are_untouched(world):
    model, processor, _ = world
    model.train()
    model.model.vision_tower.eval()
    processor.tokenizer.padding_side = "right"
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    flags = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    captions(world)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert [module.training for module in model.modules()] == flags
    assert processor.tokenizer.padding_side == "right"


def test_sampling_options_of_the_model_are_ignored(world):
    model = world[0]
    want = captions(world)
    model.generation_config.do_sample, model.generation_config.temperature = True, 5.0
    assert captions(world) == want == captions(world)
    model.generation_config.do_sample, model.generation_config.temperature = False, None


def test_a_peft_model_captions_and_can_be_trained_afterwards(world):
    from peft import LoraConfig, get_peft_model

    model, processor = captioner()
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    found = captions((peft, processor, world[2]))
    assert found == captions((captioner()[0], processor, world[2]))  # a fresh LoRA changes nothing
    ids = torch.tensor([[5, 6, 7]])
    peft(input_ids=ids, labels=ids).loss.backward()
    assert any(p.grad is not None for p in peft.parameters())


def test_an_unknown_family_is_refused(world):
    with pytest.raises(ConfigError, match=r"'bert'.*tested: blip"):
        captions((BertLMHeadModel(BertConfig(num_hidden_layers=1)), world[1], world[2]))
