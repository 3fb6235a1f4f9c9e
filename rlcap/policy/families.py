"""Which captioner class a model takes, by its config."""

from __future__ import annotations

from typing import Any

import torch

from rlcap.policy.captioner import Captioner
from rlcap.policy.chat import ChatCaptioner
from rlcap.types import ConfigError

FAMILIES: dict[str, type[Captioner]] = {
    "fast_vlm": ChatCaptioner,
    "gemma3": ChatCaptioner,
    "idefics3": ChatCaptioner,
    "internvl": ChatCaptioner,
    "llava": ChatCaptioner,
    "llava_onevision": ChatCaptioner,
    "paligemma": ChatCaptioner,
    "qwen2_vl": ChatCaptioner,
    "qwen2_5_vl": ChatCaptioner,
    "qwen3_vl": ChatCaptioner,
    "smolvlm": ChatCaptioner,
}
"""`model_type` → class, of those that tests/policy holds to their own `generate` and to the unshared path."""


def captioner_of(model: torch.nn.Module, processor: Any) -> Captioner:
    """The captioner of a model, in peft or not. Raises ConfigError for a family that isn't tested, naming those that are."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    family = FAMILIES.get(base.config.model_type)
    if family is None:
        raise ConfigError(
            f"model.base is a {base.config.model_type!r}, a family that rlcap has not been tested with; "
            f"tested: {', '.join(sorted(FAMILIES))}"
        )
    return family(model, processor)
