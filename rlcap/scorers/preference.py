"""Scores of a CLIP model in transformers' format, such as PickScore: exp(logit scale) · cosine of image and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image

from rlcap.io.addresses import resolve_address
from rlcap.scorers.loading import explain_load_errors, load_complete_model
from rlcap.scorers.text.batches import replace_lone_surrogates


class PreferenceScorer:
    """A frozen dual encoder of images and texts; usually created by `load`."""

    def __init__(self, model: Any, processor: Any, batch_size: int = 16) -> None:
        self.model, self.processor, self.batch_size = model.eval().requires_grad_(False), processor, batch_size
        self.max_tokens = min(model.config.text_config.max_position_embeddings, processor.tokenizer.model_max_length)
        self.truncated_share = 0.0
        """Share of the texts of the last call that were cut at `max_tokens`."""

    @classmethod
    def load(cls, path_or_name: str, processor: str | None = None, device: str = "cpu") -> PreferenceScorer:
        """Load from a folder or a hub name; safetensors only.

        Args:
            path_or_name: folder or hub name of the model.
            processor: folder or hub name of the processor; by default that of the model.
            device: device of the model.

        Raises:
            ConfigError: the model or the processor does not exist.
        """
        from transformers import AutoModel, AutoProcessor

        folder = resolve_address(path_or_name)
        with explain_load_errors(
            "preference model", path_or_name, "give a folder or hub name: yuvalkirstain/PickScore_v1"
        ):
            model = load_complete_model(AutoModel, folder, "preference model", path_or_name, use_safetensors=True)
            loaded_processor = AutoProcessor.from_pretrained(processor or folder, trust_remote_code=False)
        return cls(model.to(device), loaded_processor)

    @torch.inference_mode()
    def scores(self, images: Sequence[Image], texts: Sequence[str]) -> list[float]:
        """Return the score of each (image, text) pair of two sequences of equal length."""
        scores: list[float] = []
        lengths = (
            [len(ids) for ids in self.processor.tokenizer(list(texts), verbose=False)["input_ids"]] if texts else []
        )
        self.truncated_share = sum(length > self.max_tokens for length in lengths) / max(len(lengths), 1)
        for start in range(0, len(texts), self.batch_size):
            rows = slice(start, start + self.batch_size)
            inputs = self.processor(
                images=list(images[rows]),
                text=[replace_lone_surrogates(text) for text in texts[rows]],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.model.device)
            output = self.model(**inputs)
            image, text = (
                torch.nn.functional.normalize(x.float(), dim=-1) for x in (output.image_embeds, output.text_embeds)
            )
            scores += (self.model.logit_scale.exp() * (image * text).sum(-1)).tolist()
        return scores
