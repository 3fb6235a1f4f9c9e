"""The processor of a captioner: a transformers processor, or a pair of an image processor and a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor, AutoProcessor, PreTrainedTokenizerBase


class ProcessorPair:
    """An image processor and a tokenizer, for models such as ViT-GPT2 that come without a processor."""

    def __init__(self, image_processor: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def save_pretrained(self, folder: str | Path) -> None:
        """Write both to `folder`, where `load_processor` reads them."""
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_processor(base: str, trust_remote_code: bool = False) -> Any:
    """Load the processor from a model's folder or hub name; its tokenizer pads on the left.

    Raises:
        OSError: there is no processor.
    """
    options = {"padding_side": "left", "trust_remote_code": trust_remote_code}
    processor = AutoProcessor.from_pretrained(base, **options)
    if isinstance(processor, PreTrainedTokenizerBase):
        return ProcessorPair(AutoImageProcessor.from_pretrained(base, trust_remote_code=trust_remote_code), processor)
    return processor
