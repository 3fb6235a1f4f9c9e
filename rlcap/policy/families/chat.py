"""Chat vision-language models: the prompt contains image tokens, and one decoder reads prompt and caption.

One class serves all of them, since transformers gives them the same interface (`get_image_features`,
`mm_encoder_outputs`, a cache). The few differences between families are read from the model or from the tables below.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from PIL.Image import Image

from rlcap.data.control import Form
from rlcap.policy.captioner import Captioner, Prefix, evaluation_mode
from rlcap.policy.frozen import is_frozen
from rlcap.policy.prompt import Prompt, join_features, join_pixels, join_tokens, join_vision_states
from rlcap.policy.shared_prefix.checkpointing import (
    find_checkpointable_layers,
    is_reentrant,
    keep_cache,
    select_checkpointed,
)
from rlcap.policy.shared_prefix.kv_cache import recording_cache
from rlcap.policy.shared_prefix.vision_encoder import encode_frozen_vision, find_vision_encoder, replay_frozen_vision

TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Outputs of a processor that have one entry per token."""
PLACEHOLDERS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
"""Config fields that hold the ids of placeholder tokens."""
CAPTION_TYPE = {"paligemma": 1}
"""`token_type_ids` of a caption where they are not 0: PaliGemma attends to type 0 in both directions."""
FIRST_POSITION = {"paligemma": 1}
"""Position of the first token where it is not 0."""


class ChatCaptioner(Captioner):
    """A captioner that formats image and instruction with the chat template.

    A prompt keeps the vision features where the whole vision side is frozen, and the output of the vision encoder where
    only that part is frozen (`trainable: projector`). In both cases the vision encoder runs once per image for all
    passes over a prompt.
    """

    reads_several_images = True

    @property
    def instruction_form(self) -> Form:
        """A request where there is a chat template; else the beginning of the caption or the words of a task."""
        return "request" if getattr(self.processor, "chat_template", None) else "prefix"

    def __init__(self, model: torch.nn.Module, processor: Any) -> None:
        super().__init__(model, processor)
        self.inner_model: Any = self.vision_module()
        self.decoder = self.find_decoder()
        self.layers = find_checkpointable_layers(self.decoder)
        self.vision_encoder = find_vision_encoder(self.inner_model)

    def vision_module(self) -> torch.nn.Module:
        """Return the module that has `get_image_features`."""
        return self.base.model

    def find_decoder(self) -> torch.nn.Module:
        """Return the decoder, which reads prompts and captions."""
        return self.base.get_decoder()

    def vision_is_frozen(self) -> bool:
        """Return whether the vision features stay the same for the whole run."""
        return is_frozen(self.base, self.decoder, self.base.get_output_embeddings())

    def prepare(self, images: Sequence[Image | Sequence[Image]], instruction: str | Sequence[str]) -> list[Prompt]:
        """Make one prompt per image, or per sequence of images; see `Captioner.prepare`."""
        instructions = [instruction] * len(images) if isinstance(instruction, str) else instruction
        keep_features = self.vision_is_frozen()
        with evaluation_mode(self.model):
            return [self._prepare(own, text, keep_features) for own, text in zip(images, instructions, strict=True)]

    def read_inputs(self, images: Image | Sequence[Image], instruction: str) -> Prompt:
        """Return the tokens and pixels of one prompt, before the vision encoder has run."""
        inputs = self._process(list(images) if isinstance(images, Sequence) else [images], instruction)
        inputs = {name: value.to(self.base.device) for name, value in inputs.items() if torch.is_tensor(value)}
        inputs.pop("labels", None)  # PaliGemma's processor returns some, for a loss that is not used here
        tokens = {name: inputs.pop(name)[0] for name in TOKENS if name in inputs}
        return Prompt(tokens, {n: v.to(self.base.dtype) if v.is_floating_point() else v for n, v in inputs.items()})

    def _prepare(self, images: Image | Sequence[Image], instruction: str, keep_features: bool) -> Prompt:
        prompt = self.read_inputs(images, instruction)
        tokens, pixels = prompt.tokens, dict(prompt.pixels)
        if keep_features:
            # positions in a grid are still computed from its shape; the pixels are no longer needed
            return Prompt(
                tokens, {n: v for n, v in pixels.items() if n.endswith("grid_thw")}, self._encode_image(pixels)
            )
        pixels, vision_states = encode_frozen_vision(self.vision_encoder, self._encode_image, pixels)
        return Prompt(tokens, pixels, vision_states=vision_states)

    def _process(self, images: list[Image], instruction: str) -> Any:
        if not getattr(self.processor, "chat_template", None):
            # a pretrained captioner without a chat format (PaliGemma): images, then the words of the task
            text = getattr(self.processor, "image_token", "<image>") * len(images) + instruction
            return self.processor(text=[text], images=[images], return_tensors="pt")
        content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": instruction}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip

    @torch.no_grad()
    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Return the projected features of one prompt's images."""
        outputs = self.inner_model.get_image_features(**pixels, return_dict=True)
        kept = {name: getattr(outputs, name, None) for name in ("pooler_output", "deepstack_features")}
        return {name: value for name, value in kept.items() if value is not None}

    def prefill(self, prompts: Sequence[Prompt]) -> Prefix:
        """Run image and instruction once for each prompt."""
        inputs, cache = self._inputs(prompts), recording_cache()
        logits = self._run(**inputs, cache=cache, logits_to_keep=1)
        return Prefix(logits[:, -1], cache, inputs.get("attention_mask"), _last(inputs["position_ids"]) + 1)

    def decode_step(self, prefix: Prefix, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return (N, C, V) logits of the token after each of the (N, C) ids; see `Captioner.decode_step`."""
        positions = self._positions_from(prefix.position, ids.shape[1])
        return self._run(input_ids=ids, attention_mask=mask, position_ids=positions, cache=prefix.cache)

    def forward_unshared(self, prompts: Sequence[Prompt], ids: torch.Tensor) -> torch.Tensor:
        """Return (N, C, V) logits of the (N, C) ids after N prompts, in one forward pass that shares nothing."""
        inputs, count = self._inputs(prompts), ids.shape[1]
        added = {"input_ids": ids}
        added["position_ids"] = self._positions_from(_last(inputs["position_ids"]) + 1, count)
        types = self.caption_types()
        added |= {n: torch.full_like(ids, t, dtype=inputs[n].dtype) for n, t in types.items() if n in inputs}
        inputs |= {name: torch.cat([inputs[name], value], -1) for name, value in added.items()}
        return self._run(**inputs, logits_to_keep=count + 1)[:, :-1]

    def caption_types(self) -> dict[str, int]:
        """Return, for each tensor of the prompt's tokens besides the ids, its value on the tokens of a caption."""
        return {"attention_mask": 1, "token_type_ids": CAPTION_TYPE.get(self.kind, 0), "mm_token_type_ids": 0}

    def join_vision_states(self, prompts: Sequence[Prompt]) -> Any:
        """Join the recorded vision states of several prompts; None where the vision encoder has to run.

        A family whose images give grids of different sizes overrides this.
        """
        return join_vision_states(prompts)

    def visual_tokens(self, image: Image) -> int:
        """Return the number of placeholder tokens that an image takes in the prompt."""
        ids = self._process([image], "describe")["input_ids"]
        return int(torch.isin(ids, torch.tensor(self.forbidden_token_ids(), device=ids.device)).sum())

    def forbidden_token_ids(self) -> list[int]:
        """Return the ids of the placeholder tokens."""
        return sorted({i for name in PLACEHOLDERS if (i := getattr(self.base.config, name, None)) is not None})

    def prefix_sharing_blocker(self) -> str | None:
        """Return why the shared prefix can't be used: reentrant checkpointing gives no gradient to a cache."""
        if any(map(is_reentrant, select_checkpointed(self.layers))):
            return "gradient checkpointing is reentrant; pass gradient_checkpointing_kwargs={'use_reentrant': False}"
        return None

    def _run(self, vision_states: Any = None, **inputs: Any) -> torch.Tensor:
        """Return the logits of a forward pass.

        The model fills the cache in `inputs` whatever `use_cache` is; False keeps checkpointing from warning.

        Args:
            vision_states: recorded output of the vision encoder, where it need not run.
            **inputs: arguments of the model's forward.
        """
        recomputed = select_checkpointed(self.layers)
        with keep_cache(recomputed), replay_frozen_vision(self.vision_encoder, vision_states):
            return self.model(**inputs, use_cache=not recomputed).logits

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Return the forward's arguments for a batch of prompts."""
        inputs = self._text(prompts)
        if prompts[0].features is None:
            return inputs | join_pixels(prompts) | {"vision_states": self.join_vision_states(prompts)}
        features = make_encoder_outputs(**join_features([p.features for p in prompts]))
        return inputs | {"mm_encoder_outputs": {"image": features}}

    def _text(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Return the tokens with their types and positions, and a mask where something is padded."""
        inputs = join_tokens(prompts, self.pad_id)
        mask = inputs["attention_mask"]
        if self._has_grid():
            inputs["position_ids"], _ = self.inner_model.get_rope_index(
                input_ids=inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"],
                image_grid_thw=join_pixels(prompts)["image_grid_thw"], attention_mask=mask,
            )  # fmt: skip
        else:
            first = FIRST_POSITION.get(self.kind, 0)
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0) + first
        if len({len(p.tokens["input_ids"]) for p in prompts}) == 1:
            del inputs["attention_mask"]
        return inputs

    def _has_grid(self) -> bool:
        """Return whether positions have the axes time, height and width (M-RoPE)."""
        return hasattr(self.inner_model, "get_rope_index")

    def _positions_from(self, start: torch.Tensor, count: int) -> torch.Tensor:
        """Count positions up from `start`: (B,) → (B, count), or (3, B, count) with three axes.

        Text has the same position on each axis.
        """
        positions = start[:, None] + torch.arange(count, device=start.device)
        return positions.expand(3, -1, -1) if self._has_grid() else positions


class EncoderOutputs(SimpleNamespace):
    """Stored features in the form of a vision encoder's outputs, as far as the models read these."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values as a tuple, as transformers (5.24 on) does for its own outputs."""
        return tuple(value for value in vars(self).values() if value is not None)


def make_encoder_outputs(**features: Any) -> EncoderOutputs:
    """Wrap stored features in the form of a vision encoder's outputs."""
    return EncoderOutputs(**{"qformer_outputs": None, "vision_outputs": None, **features})


def _last(positions: torch.Tensor) -> torch.Tensor:
    """Return the greatest position of each row: (B, P) or (3, B, P) → (B,)."""
    positions = positions.amax(-1)
    return positions.amax(0) if positions.dim() == 2 else positions
