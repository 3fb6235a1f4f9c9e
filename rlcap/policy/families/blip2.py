"""BLIP-2 and InstructBLIP: query tokens precede the prompt in OPT or LLaMA, or in the encoder of T5.

The instruction is a beginning of captions that the model was trained on: "a photo of", "Question: … Answer:", or the
empty text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from transformers.modeling_outputs import BaseModelOutput

from rlcap.data.control import Form
from rlcap.policy.families.chat import ChatCaptioner, make_encoder_outputs
from rlcap.policy.families.encoder_decoder import EncoderDecoderCaptioner
from rlcap.policy.prompt import Prompt, join_features, join_pixels, join_tokens, join_vision_states


def absent_image_inputs(base: Any) -> dict[str, None]:
    """Return the image arguments that the forward requires although the image features are known already."""
    qformer_inputs = {"qformer_input_ids": None} if base.config.model_type == "instructblip" else {}
    return {"pixel_values": None, **qformer_inputs}


class Blip2Captioner(ChatCaptioner):
    """A chat model without a template, with a forward that requires an image and a decoder with its own config."""

    reads_several_images = False

    @property
    def instruction_form(self) -> Form:
        """A request in InstructBLIP; in BLIP-2 the beginning of the caption."""
        return "request" if self.kind == "instructblip" else "prefix"

    def text_model(self) -> torch.nn.Module:
        """Return the language model."""
        return self.base.language_model

    def vision_module(self) -> torch.nn.Module:
        """Return the module that holds the vision encoder."""
        return self.base

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _run(self, vision_states: Any = None, **inputs: Any) -> torch.Tensor:
        if inputs.get("attention_mask") is None:
            # without a mask, the forward would build one for the ids alone and forget the cache
            rows, tokens = inputs["input_ids"].shape
            before = inputs["cache"].get_seq_length() if "cache" in inputs else 0
            inputs["attention_mask"] = inputs["input_ids"].new_ones(rows, before + tokens)
        if inputs.get("pixel_values") is not None:
            return super()._run(vision_states, **inputs)
        if "mm_encoder_outputs" not in inputs:
            # captions contain no query tokens, so they need an empty set of features
            width = self.base.config.text_config.hidden_size
            no_features = torch.empty(0, width, device=self.base.device, dtype=self.base.dtype)
            inputs["mm_encoder_outputs"] = {"image": make_encoder_outputs(pooler_output=no_features)}
        return super()._run(vision_states, **absent_image_inputs(self.base), **inputs)


class Blip2Seq2SeqCaptioner(EncoderDecoderCaptioner):
    """BLIP-2 and InstructBLIP with T5: query tokens precede the prompt in the text encoder."""

    @property
    def instruction_form(self) -> Form:
        """A request in InstructBLIP; in BLIP-2 the beginning of the caption."""
        return "request" if self.kind == "instructblip" else "prefix"

    def text_model(self) -> torch.nn.Module:
        """Return the language model."""
        return self.base.language_model

    def language_modules(self) -> list[torch.nn.Module | None]:
        """Return the modules whose training leaves stored vision features valid."""
        return [self.base.language_model]

    def vision_module(self) -> torch.nn.Module:
        """Return the module that holds the vision encoder."""
        return self.base

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.get_image_features(**pixels, return_dict=True).pooler_output

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        tokens = join_tokens(prompts, self.pad_id, "right")
        if prompts[0].features is None:
            return tokens | join_pixels(prompts) | {"vision_states": join_vision_states(prompts)}
        features = make_encoder_outputs(pooler_output=join_features([p.features for p in prompts]))
        return tokens | absent_image_inputs(self.base) | {"mm_encoder_outputs": {"image": features}}

    def _inputs_from_states(self, states: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        # the forward embeds a prompt even if it is not used: pass one pad token per row, no features, and the states
        no_features = make_encoder_outputs(pooler_output=states[:0, 0])
        return absent_image_inputs(self.base) | {
            "input_ids": torch.full_like(mask[:, :1], self.pad_id), "attention_mask": mask,
            "mm_encoder_outputs": {"image": no_features}, "encoder_outputs": BaseModelOutput(last_hidden_state=states),
        }  # fmt: skip
