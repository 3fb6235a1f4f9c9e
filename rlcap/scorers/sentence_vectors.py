"""Unit vectors of texts by a sentence encoder.

The vector is the mean of the last states over tokens, as in most models of sentence-transformers (all-MiniLM-L6-v2,
all-mpnet-base-v2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcap.scorers.grammar import max_readable_tokens
from rlcap.scorers.loading import load_text_model
from rlcap.scorers.text.batches import length_sorted_batches, replace_lone_surrogates


class SentenceEncoder:
    """A frozen sentence encoder; usually created by `load`."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 64) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval().requires_grad_(False), tokenizer, batch_size
        self.max_tokens = max_readable_tokens(model, tokenizer)

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu") -> SentenceEncoder:
        """Load from a folder or a hub name; safetensors only.

        Raises:
            ConfigError: the model does not exist.
        """
        from transformers import AutoModel

        fix = "give a folder or hub name: sentence-transformers/all-mpnet-base-v2"
        return cls(*load_text_model(AutoModel, path_or_name, device, "sentence encoder", fix, ("pooler",)))

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return (N, D) float32 unit vectors of N texts on the CPU; each distinct text is encoded once."""
        unique = list(dict.fromkeys(texts))
        rows_to_vectors: dict[int, Tensor] = {}
        for rows in length_sorted_batches([len(text) for text in unique], self.batch_size):
            encoded = self.tokenizer(
                [replace_lone_surrogates(unique[i]) for i in rows],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.model.device)
            states = self.model(**encoded).last_hidden_state.float()
            mask = encoded["attention_mask"][..., None]
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows_to_vectors |= zip(rows, torch.nn.functional.normalize(means, dim=-1).cpu(), strict=True)
        place = {text: i for i, text in enumerate(unique)}
        return torch.stack([rows_to_vectors[place[text]] for text in texts]) if texts else torch.zeros(0, 1)
