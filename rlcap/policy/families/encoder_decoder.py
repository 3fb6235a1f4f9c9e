"""Captioners whose encoder has read image and instruction before a decoder writes: the encoder's pass is what is shared.

The keys and values that the decoder's cross attention makes of the encoder's states are shared with it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from PIL.Image import Image
from transformers.modeling_outputs import BaseModelOutput

from rlcap.policy.captioner import Captioner, Prefix, evaluation_mode
from rlcap.policy.families.chat import PLACEHOLDERS, TOKENS
from rlcap.policy.frozen import is_frozen
from rlcap.policy.prompt import Prompt, join_features, join_pixels, join_tokens, join_vision_states
from rlcap.policy.shared_prefix.checkpointing import find_checkpointable_layers, select_checkpointed
from rlcap.policy.shared_prefix.kv_cache import recording_cache
from rlcap.policy.shared_prefix.vision_encoder import encode_frozen_vision, find_vision_encoder


class EncoderDecoderCaptioner(Captioner):
    """What T5-style BLIP-2, Florence-2 and ViT-GPT2 have in common."""

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        vision_module = self.vision_module()
        self.vision_encoder = None if vision_module is None else find_vision_encoder(vision_module)

    def vision_module(self) -> torch.nn.Module | None:
        """The module that has tower and projector; None where the tower's states are kept whatever comes after them."""
        return None

    @abstractmethod
    def language_modules(self) -> list[torch.nn.Module | None]:
        """The modules that may be trained while kept vision features stay right."""

    @abstractmethod
    def _process(self, images: list[Image], instruction: str) -> Any:
        """The processor's tensors for one prompt."""

    @abstractmethod
    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        """The vision features of one prompt, nested as `prompt.join_features` takes them."""

    @abstractmethod
    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """What the model takes besides the decoder's tokens."""

    @abstractmethod
    def _inputs_from_states(self, states: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
        """The same for N rows of encoder states (N, S, D) that it has already, `seen` (N, S) the encoder's mask."""

    def prepare(self, images: Sequence[Image | Sequence[Image]], instruction: str | Sequence[str]) -> list[Prompt]:
        asked = [instruction] * len(images) if isinstance(instruction, str) else instruction
        fixed = is_frozen(self.base, *self.language_modules())
        with evaluation_mode(self.model):
            return [self._prepare(mine, text, fixed) for mine, text in zip(images, asked, strict=True)]

    def _prepare(self, images: Image | Sequence[Image], instruction: str, fixed: bool) -> Prompt:
        inputs = self._process(list(images) if isinstance(images, list | tuple) else [images], instruction)
        inputs = {name: value.to(self.base.device) for name, value in inputs.items() if torch.is_tensor(value)}
        tokens = {name: inputs.pop(name)[0] for name in TOKENS if name in inputs}
        pixels = {n: v.to(self.base.dtype) if v.is_floating_point() else v for n, v in inputs.items()}
        if fixed:
            with torch.no_grad():
                return Prompt(tokens, {}, self._encode_image(pixels))
        pixels, seen = encode_frozen_vision(self.vision_encoder, self._encode_image, pixels)
        return Prompt(tokens, pixels, seen=seen)

    def prefill(self, prompts: Sequence[Prompt]) -> Prefix:
        inputs, cache = self._inputs(prompts), recording_cache(encoder_decoder=True)
        ids, mask = self._start(prompts)
        logits, states = self._decode(inputs, ids, mask, cache)
        seen = inputs.get("attention_mask")
        seen = torch.ones(states.shape[:2], dtype=torch.long, device=states.device) if seen is None else seen
        return Prefix(logits[:, -1], cache, mask, mask.sum(-1), {"states": states, "seen": seen})

    def decode_step(self, prefix: Prefix, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._decode(self._inputs_from_states(**prefix.extra), ids, mask, prefix.cache)[0]

    def forward_unshared(self, prompts: Sequence[Prompt], ids: torch.Tensor) -> torch.Tensor:
        start, before = self._start(prompts)
        ids = torch.cat([start, ids[:, :-1]], 1)
        mask = torch.cat([before, before.new_ones(len(ids), ids.shape[1] - start.shape[1])], 1)
        return self._decode(self._inputs(prompts), ids, mask, None)[0][:, start.shape[1] - 1 :]

    def forbidden_token_ids(self) -> list[int]:
        return sorted({i for name in PLACEHOLDERS if (i := getattr(self.base.config, name, None)) is not None})

    def prefix_sharing_blocker(self) -> str | None:
        if select_checkpointed(find_checkpointable_layers(self.base)):
            # cross attention asks its cache whether it has been filled, and does not fill it when it is run again
            return f"gradient checkpointing would not repeat the cross attention of {type(self.base).__name__}"
        return None

    def _start(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, P) ids and mask of what the decoder is given before a caption: the one token that all begin with."""
        config = self.text_model().generation_config
        first = config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
        ids = torch.full((len(prompts), 1), first, device=self.base.device, dtype=torch.long)
        return ids, torch.ones_like(ids)

    def _decode(
        self, inputs: dict[str, Any], ids: torch.Tensor, mask: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, P, V) logits of the decoder's tokens, and the encoder's states (B, S, D); `mask` counts the cache's too."""
        seen, inputs = inputs.get("seen"), {name: value for name, value in inputs.items() if name != "seen"}
        with nullcontext() if seen is None else self.vision_encoder.replay_states(seen):
            out = self.model(
                **inputs, decoder_input_ids=ids, decoder_attention_mask=mask, cache=cache,
                use_cache=cache is not None,
            )  # fmt: skip
        out = getattr(out, "language_model_outputs", out)
        return out.logits, out.encoder_last_hidden_state


class Florence2Captioner(EncoderDecoderCaptioner):
    """Florence-2: image tokens stand before the task's prompt in a BART encoder."""

    def language_modules(self) -> list[torch.nn.Module | None]:
        return [self.base.model.language_model, self.base.get_output_embeddings()]

    def vision_module(self) -> torch.nn.Module:
        return self.base.model

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.model.get_image_features(**pixels, return_dict=True).pooler_output

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        tokens = join_tokens(prompts, self.pad_id, "right")
        if prompts[0].features is None:
            return tokens | join_pixels(prompts) | {"seen": join_vision_states(prompts)}
        ids = tokens.pop("input_ids")
        embedded = self.base.get_input_embeddings()(ids)
        features = join_features([p.features for p in prompts]).to(embedded.dtype)
        image = (ids == self.base.config.image_token_id)[..., None]
        return tokens | {"inputs_embeds": embedded.masked_scatter(image, features)}

    def _inputs_from_states(self, states: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
        return {"attention_mask": seen, "encoder_outputs": BaseModelOutput(last_hidden_state=states)}


class VisionEncoderDecoderCaptioner(EncoderDecoderCaptioner):
    """A vision encoder and a text decoder (ViT-GPT2): there is no prompt, and the instruction is ignored."""

    def language_modules(self) -> list[torch.nn.Module | None]:
        return [self.base.decoder, getattr(self.base, "enc_to_dec_proj", None)]

    def _process(self, images: list[Image], instruction: str) -> Any:
        processor = getattr(self.processor, "image_processor", self.processor)
        return processor(images=images, return_tensors="pt")

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.encoder(**pixels, return_dict=True).last_hidden_state

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        if prompts[0].features is None:
            return join_pixels(prompts)
        states = join_features([p.features for p in prompts])
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}

    def _inputs_from_states(self, states: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}


class BlipCaptioner(EncoderDecoderCaptioner):
    """BLIP: the text decoder looks at the image's patches; the instruction is how every caption begins."""

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        self.end_ids, self.pad_id = (
            [self.base.config.text_config.sep_token_id],
            self.base.config.text_config.pad_token_id,
        )

    def text_model(self) -> torch.nn.Module:
        return self.base.text_decoder

    def language_modules(self) -> list[torch.nn.Module | None]:
        return [self.base.text_decoder]

    def _process(self, images: list[Image], instruction: str) -> Any:
        inputs = self.processor(images=images, text=instruction or None, return_tensors="pt")
        ids = inputs["input_ids"][:, :-1] if instruction else torch.zeros(1, 1, dtype=torch.long)
        ids[:, 0] = self.base.config.text_config.bos_token_id
        return {"pixel_values": inputs["pixel_values"], "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.vision_model(**pixels).last_hidden_state

    def _start(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = join_tokens(prompts, self.pad_id)
        return tokens["input_ids"], tokens["attention_mask"]

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        if prompts[0].features is None:
            return {"encoder_hidden_states": self._encode_image(join_pixels(prompts))}
        return {"encoder_hidden_states": join_features([p.features for p in prompts])}

    def _inputs_from_states(self, states: torch.Tensor, seen: torch.Tensor) -> dict[str, Any]:
        return {"encoder_hidden_states": states}

    def _decode(
        self, inputs: dict[str, Any], ids: torch.Tensor, mask: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.forward_part(
            self.base.text_decoder,
            **inputs, input_ids=ids, attention_mask=mask, cache=cache, use_cache=cache is not None,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :],
        )  # fmt: skip
        return out.logits, inputs["encoder_hidden_states"]
