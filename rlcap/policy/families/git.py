"""GIT: the image's patches precede the text in one decoder, without placeholder tokens."""

from __future__ import annotations

from typing import Any

import torch
from PIL.Image import Image

from rlcap.policy.families.chat import ChatCaptioner


class GitCaptioner(ChatCaptioner):
    """A captioner whose captions begin with the instruction; masks and positions count only the text."""

    reads_several_images = False

    def vision_module(self) -> torch.nn.Module:
        """Return the module that holds the vision encoder."""
        return self.base.git

    def find_decoder(self) -> torch.nn.Module:
        """Return the decoder, which reads image, prompt and caption."""
        return self.base.git.encoder

    def vision_is_frozen(self) -> bool:
        """Return False: the forward accepts images only through its encoder, whose output `vision_encoder` replays."""
        return False

    def _process(self, images: list[Image], instruction: str) -> Any:
        tokenizer = self.processor.tokenizer
        words = tokenizer(instruction, add_special_tokens=False)["input_ids"] if instruction else []
        ids = torch.tensor([[self.base.config.bos_token_id, *words]])
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}

    @torch.no_grad()
    def _encode_image(self, pixels: dict[str, torch.Tensor]) -> Any:
        return self.base.git.image_encoder(**pixels).last_hidden_state
