"""BLIP-2 and InstructBLIP: query tokens stand before the prompt, in OPT or LLaMA, or in T5's encoder.

The instruction is the caption's beginning as the model was trained on it: "a photo of", "Question: … Answer:", or
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from transformers.modeling_outputs import BaseModelOutput

from rlcap.policy.families.chat import ChatCaptioner, make_encoder_outputs
from rlcap.policy.families.encoder_decoder import EncoderDecoderCaptioner
from rlcap.policy.prompt import Prompt, join_features, join_pixels, join_tokens, join_vision_states


def absent_image_inputs(base: torch.nn.Module) -> dict[str, None]:
    """The arguments that the forward demands although the images have been seen."""
    questions = {"qformer_input_ids": None} if base.config.model_type == "instructblip" else {}
    return {"pixel_values": None, **questions}


class Blip2Captioner(ChatCaptioner):
    """A chat model but for three things: no template, a forward that insists on an image, a decoder of its own config."""

    def text_model(self) -> torch.nn.Module:
        return self.base.language_model

    def vision_module(self) -> torch.nn.Module:
        return self.base

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _run(self, **inputs: Any) -> torch.Tensor:
        if inputs.get("attention_mask") is None:
            # the forward would make a mask of the ids alone, without what the cache has
            rows, tokens = inputs["input_ids"].shape
            before = inputs["cache"].get_seq_length() if "cache" in inputs else 0
            inputs["attention_mask"] = inputs["input_ids"].new_ones(rows, before + tokens)
        if inputs.get("pixel_values") is not None:
            return super()._run(**inputs)
        if "mm_encoder_outputs" not in inputs:
            # captions hold no query tokens, so that no features are what they need
            width = self.base.config.text_config.hidden_size
            nothing = torch.empty(0, width, device=self.base.device, dtype=self.base.dtype)
            inputs["mm_encoder_outputs"] = {"image": make_encoder_outputs(pooler_output=nothing)}
        return super()._run(**absent_image_inputs(self.base), **inputs)


class Blip2Seq2SeqCaptioner(EncoderDecoderCaptioner):
    """BLIP-2 and InstructBLIP with T5: query tokens stand before the prompt in the text encoder."""

    def text_model(self) -> torch.nn.Module:
        return self.base.language_model

    def language_modules(self) -> list[torch.nn.Module | None]:
        return [self.base.language_model]

    def vision_module(self) -> torch.nn.Module:
        return self.base

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.get_image_features(**pixels, return_dict=True).pooler_output

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        tokens = join_tokens(prompts, self.pad_id, "right")
        if prompts[0].features is None:
            return tokens | join_pixels(prompts) | {"seen": join_vision_states(prompts)}
        features = make_encoder_outputs(pooler_output=join_features([p.features for p in prompts]))
        return tokens | absent_image_inputs(self.base) | {"mm_encoder_outputs": {"image": features}}

    def _inputs_from_states(self, states: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
        # the forward embeds a prompt whatever comes of it: one pad token each, no features, and the states instead
        nothing = make_encoder_outputs(pooler_output=states[:0, 0])
        return absent_image_inputs(self.base) | {
            "input_ids": torch.full_like(seen[:, :1], self.pad_id), "attention_mask": seen,
            "mm_encoder_outputs": {"image": nothing}, "encoder_outputs": BaseModelOutput(last_hidden_state=states),
        }  # fmt: skip
