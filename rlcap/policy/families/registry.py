"""The registry of model families: it chooses the captioner class by a model's config."""

from __future__ import annotations

from typing import Any

import torch

from rlcap.errors import ConfigError
from rlcap.policy.captioner import Captioner, unwrap_model
from rlcap.policy.families.blip2 import Blip2Captioner, Blip2Seq2SeqCaptioner
from rlcap.policy.families.chat import ChatCaptioner
from rlcap.policy.families.encoder_decoder import BlipCaptioner, Florence2Captioner, VisionEncoderDecoderCaptioner
from rlcap.policy.families.git import GitCaptioner

FAMILIES: dict[str, type[Captioner]] = {
    "blip": BlipCaptioner,
    "blip-2": Blip2Captioner,
    "blip-2 with t5": Blip2Seq2SeqCaptioner,
    "fast_vlm": ChatCaptioner,
    "florence2": Florence2Captioner,
    "gemma3": ChatCaptioner,
    "git": GitCaptioner,
    "idefics3": ChatCaptioner,
    "instructblip": Blip2Captioner,
    "instructblip with t5": Blip2Seq2SeqCaptioner,
    "internvl": ChatCaptioner,
    "llava": ChatCaptioner,
    "llava_onevision": ChatCaptioner,
    "paligemma": ChatCaptioner,
    "qwen2_vl": ChatCaptioner,
    "qwen2_5_vl": ChatCaptioner,
    "qwen3_vl": ChatCaptioner,
    "smolvlm": ChatCaptioner,
    "vision-encoder-decoder": VisionEncoderDecoderCaptioner,
}
"""Family → class. tests/policy compares each family with the `generate` of transformers and with the unshared path."""


def get_family(config: Any) -> str:
    """Return the config's `model_type`, with the kind of language model where a type comes with two kinds."""
    with_t5 = config.model_type in ("blip-2", "instructblip") and not config.use_decoder_only_language_model
    return config.model_type + " with t5" * with_t5


def check_family(config: Any) -> str:
    """Return the family of a model's config.

    Raises:
        ConfigError: the family is not tested; the message names those that are.
    """
    family = get_family(config)
    if family not in FAMILIES:
        raise ConfigError(
            f"model.base is a {family!r}, a family that rlcap has not been tested with; "
            f"tested: {', '.join(sorted(FAMILIES))}"
        )
    return family


def make_captioner(model: torch.nn.Module, processor: Any) -> Captioner:
    """Return the captioner of a model, which may be in peft.

    Raises:
        ConfigError: the family is not tested; the message names those that are.
    """
    return FAMILIES[check_family(unwrap_model(model).config)](model, processor)
