"""Encoder-decoder captioners: an encoder reads image and instruction, and captions share its pass.

They also share the keys and values that the decoder's cross attention computes from the encoder's states.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from transformers.modeling_outputs import BaseModelOutput

from rlcap.data.control import Form
from rlcap.policy.captioner import Captioner, Prefix, evaluation_mode
from rlcap.policy.families.chat import PLACEHOLDERS, TOKENS
from rlcap.policy.frozen import is_frozen
from rlcap.policy.prompt import Prompt, join_features, join_pixels, join_tokens, join_vision_states
from rlcap.policy.shared_prefix.checkpointing import find_checkpointable_layers, select_checkpointed
from rlcap.policy.shared_prefix.kv_cache import recording_cache
from rlcap.policy.shared_prefix.vision_encoder import encode_frozen_vision, find_vision_encoder, replay_frozen_vision


class EncoderDecoderCaptioner(Captioner):
    """Base class of the encoder-decoder captioners, such as BLIP-2 with T5, Florence-2 and ViT-GPT2."""

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        vision_module = self.vision_module()
        self.vision_encoder = None if vision_module is None else find_vision_encoder(vision_module)

    def vision_module(self) -> torch.nn.Module | None:
        """Return the module with vision encoder and projector; None where the encoder's states are kept in any case."""
        return None

    @abstractmethod
    def language_modules(self) -> list[torch.nn.Module | None]:
        """Return the modules whose training leaves stored vision features valid."""

    @abstractmethod
    def _process(self, images: list[Image], instruction: str) -> Any:
        """Return the processor's tensors for one prompt."""

    @abstractmethod
    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        """Return the vision features of one prompt, nested as `prompt.join_features` expects."""

    @abstractmethod
    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Return the forward's arguments other than the decoder's tokens."""

    @abstractmethod
    def _inputs_from_states(self, states: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        """Return the same arguments for known encoder states (N, S, D) with the encoder's mask (N, S)."""

    def prepare(self, images: Sequence[Image | Sequence[Image]], instruction: str | Sequence[str]) -> list[Prompt]:
        """Make one prompt per image, or per sequence of images; see `Captioner.prepare`."""
        instructions = [instruction] * len(images) if isinstance(instruction, str) else instruction
        keep_features = is_frozen(self.base, *self.language_modules())
        with evaluation_mode(self.model):
            return [self._prepare(own, text, keep_features) for own, text in zip(images, instructions, strict=True)]

    def _prepare(self, images: Image | Sequence[Image], instruction: str, keep_features: bool) -> Prompt:
        inputs = self._process(list(images) if isinstance(images, Sequence) else [images], instruction)
        inputs = {name: value.to(self.base.device) for name, value in inputs.items() if torch.is_tensor(value)}
        tokens = {name: inputs.pop(name)[0] for name in TOKENS if name in inputs}
        pixels = {n: v.to(self.base.dtype) if v.is_floating_point() else v for n, v in inputs.items()}
        if keep_features:
            with torch.no_grad():
                return Prompt(tokens, {}, self._encode_image(pixels))
        pixels, vision_states = encode_frozen_vision(self.vision_encoder, self._encode_image, pixels)
        return Prompt(tokens, pixels, vision_states=vision_states)

    def prefill(self, prompts: Sequence[Prompt]) -> Prefix:
        """Run the encoder and the decoder's first token once for each prompt."""
        inputs, cache = self._inputs(prompts), recording_cache(encoder_decoder=True)
        ids, decoder_mask = self._start(prompts)
        logits, states = self._decode(inputs, ids, decoder_mask, cache)
        mask = inputs.get("attention_mask")
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device) if mask is None else mask
        return Prefix(logits[:, -1], cache, decoder_mask, decoder_mask.sum(-1), {"states": states, "mask": mask})

    def decode_step(self, prefix: Prefix, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return (N, C, V) logits of the token after each of the (N, C) ids; see `Captioner.decode_step`."""
        assert mask is not None  # `prefill` gives every prefix a mask
        return self._decode(self._inputs_from_states(**prefix.extra), ids, mask, prefix.cache)[0]

    def forward_unshared(self, prompts: Sequence[Prompt], ids: torch.Tensor) -> torch.Tensor:
        """Return (N, C, V) logits of the (N, C) ids after N prompts, in one forward pass that shares nothing."""
        start, start_mask = self._start(prompts)
        ids = torch.cat([start, ids[:, :-1]], 1)
        mask = torch.cat([start_mask, start_mask.new_ones(len(ids), ids.shape[1] - start.shape[1])], 1)
        return self._decode(self._inputs(prompts), ids, mask, None)[0][:, start.shape[1] - 1 :]

    def forbidden_token_ids(self) -> list[int]:
        """Return the ids of the placeholder tokens."""
        return sorted({i for name in PLACEHOLDERS if (i := getattr(self.base.config, name, None)) is not None})

    def prefix_sharing_blocker(self) -> str | None:
        """Return why the shared prefix can't be used: checkpointing does not repeat the cross attention."""
        if select_checkpointed(find_checkpointable_layers(self.base)):
            # a recomputed layer finds the cache of its cross attention marked as filled, and does not fill it again
            return f"gradient checkpointing would not repeat the cross attention of {type(self.base).__name__}"
        return None

    def _start(self, prompts: Sequence[Prompt]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, P) ids and mask of the decoder tokens before a caption: the start token of all captions."""
        config = self.text_model().generation_config
        first = config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
        ids = torch.full((len(prompts), 1), first, device=self.base.device, dtype=torch.long)
        return ids, torch.ones_like(ids)

    def _decode(
        self, inputs: dict[str, Any], ids: torch.Tensor, mask: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the decoder's logits (B, P, V) and the encoder's states (B, S, D); `mask` covers the cache too."""
        vision_states = inputs.get("vision_states")
        inputs = {name: value for name, value in inputs.items() if name != "vision_states"}
        with replay_frozen_vision(self.vision_encoder, vision_states):
            out = self.model(
                **inputs, decoder_input_ids=ids, decoder_attention_mask=mask, cache=cache,
                use_cache=cache is not None,
            )  # fmt: skip
        out = getattr(out, "language_model_outputs", out)
        return out.logits, out.encoder_last_hidden_state


class Florence2Captioner(EncoderDecoderCaptioner):
    """Florence-2: image tokens precede the prompt of the task in a BART encoder."""

    def language_modules(self) -> list[torch.nn.Module | None]:
        """Return the modules whose training leaves stored vision features valid."""
        return [self.base.model.language_model, self.base.get_output_embeddings()]

    def vision_module(self) -> torch.nn.Module:
        """Return the module that holds the vision encoder."""
        return self.base.model

    def _process(self, images: list[Image], instruction: str) -> Any:
        return self.processor(images=images, text=instruction, return_tensors="pt")

    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.model.get_image_features(**pixels, return_dict=True).pooler_output

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        tokens = join_tokens(prompts, self.pad_id, "right")
        if prompts[0].features is None:
            return tokens | join_pixels(prompts) | {"vision_states": join_vision_states(prompts)}
        ids = tokens.pop("input_ids")
        embedded = self.base.get_input_embeddings()(ids)
        features = join_features([p.features for p in prompts]).to(embedded.dtype)
        image = (ids == self.base.config.image_token_id)[..., None]
        return tokens | {"inputs_embeds": embedded.masked_scatter(image, features)}

    def _inputs_from_states(self, states: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        return {"attention_mask": mask, "encoder_outputs": BaseModelOutput(last_hidden_state=states)}


class VisionEncoderDecoderCaptioner(EncoderDecoderCaptioner):
    """A vision encoder with a text decoder (ViT-GPT2). It has no prompt and ignores the instruction."""

    @property
    def instruction_form(self) -> Form:
        """None, because the decoder has no prompt."""
        return "none"

    def language_modules(self) -> list[torch.nn.Module | None]:
        """Return the modules whose training leaves stored vision features valid."""
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

    def _inputs_from_states(self, states: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        return {"encoder_outputs": BaseModelOutput(last_hidden_state=states)}


class BlipCaptioner(EncoderDecoderCaptioner):
    """BLIP: the text decoder attends to the image's patches; every caption begins with the instruction."""

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        self.pad_id = self.base.config.text_config.pad_token_id

    def read_end_ids(self) -> list[int]:
        """Return the separator of BERT, with which BLIP ends its captions."""
        return [self.base.config.text_config.sep_token_id]

    def text_model(self) -> torch.nn.Module:
        """Return the language model."""
        return self.base.text_decoder

    def language_modules(self) -> list[torch.nn.Module | None]:
        """Return the modules whose training leaves stored vision features valid."""
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

    def _inputs_from_states(self, states: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
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
