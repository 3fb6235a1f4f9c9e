"""GIT: the image's patches stand before the text in one decoder, without tokens of their own."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from PIL.Image import Image

from rlcap.policy.chat import ChatCaptioner
from rlcap.policy.frozen import is_frozen
from rlcap.policy.prompt import Prompt, join_features, join_pixels


class GitCaptioner(ChatCaptioner):
    """The instruction is how every caption begins; masks and positions count text alone, as the model has them."""

    def seer(self) -> torch.nn.Module:
        return self.base.git

    def reader(self) -> torch.nn.Module:
        return self.base.git.encoder

    def sees_alike(self) -> bool:
        return is_frozen(self.base.git.image_encoder)

    def _process(self, images: list[Image], instruction: str) -> Any:
        tokenizer = self.processor.tokenizer
        words = tokenizer(instruction, add_special_tokens=False)["input_ids"] if instruction else []
        ids = torch.tensor([[self.base.config.bos_token_id, *words]])
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}

    @torch.no_grad()
    def _look(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.git.image_encoder(**pixels).last_hidden_state

    def _inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        inputs = self._text(prompts)
        if prompts[0].features is None:
            return inputs | join_pixels(prompts)
        return inputs | {"seen": join_features([p.features for p in prompts])}

    def _run(self, seen: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        if seen is None:
            return super()._run(**inputs)
        # the forward takes images in no other way than through its encoder: it answers with what it has seen
        encoder = self.base.git.image_encoder
        encoder.forward = lambda *_, **__: SimpleNamespace(last_hidden_state=seen)
        try:
            return super()._run(pixel_values=seen.new_zeros(len(seen), 1, 1, 1), **inputs)
        finally:
            del encoder.forward
