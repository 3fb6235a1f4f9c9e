"""A captioner's processor: transformers' own, or an image processor and a tokenizer side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoProcessor, PreTrainedTokenizerBase


class ProcessorPair:
    """What ViT-GPT2 and its like have in their folder instead of a processor."""

    def __init__(self, image_processor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both; `load_processor` reads them."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_processor(base: str, trust_remote_code: bool = False) -> Any:
    """The processor of a model's folder or hub name; its tokenizer pads on the left.

    Raises OSError where there is none.
    """
    options = {"padding_side": "left", "trust_remote_code": trust_remote_code}
    found = AutoProcessor.from_pretrained(base, **options)
    if isinstance(found, PreTrainedTokenizerBase):
        return ProcessorPair(AutoImageProcessor.from_pretrained(base, trust_remote_code=trust_remote_code), found)
    return found
