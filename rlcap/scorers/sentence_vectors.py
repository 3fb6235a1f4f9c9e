"""Unit vectors of texts by a sentence encoder: the mean of its last states over tokens, as sentence-transformers pools most of
its models (all-MiniLM-L6-v2, all-mpnet-base-v2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcap.scorers.grammar import max_readable_tokens
from rlcap.scorers.loading import load_text_model
from rlcap.scorers.text.batches import length_sorted_batches, replace_lone_surrogates


class SentenceEncoder:
    """A frozen encoder. `load` is the usual way in."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 64) -> None:
        self.model, self.tokenizer, self.batch_size = model.eval().requires_grad_(False), tokenizer, batch_size
        self.max_tokens = max_readable_tokens(model, tokenizer)

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu") -> SentenceEncoder:
        """From a folder or a hub name; safetensors only. ConfigError where there is no such model."""
        from transformers import AutoModel

        fix = "give a folder or hub name: sentence-transformers/all-mpnet-base-v2"
        return cls(*load_text_model(AutoModel, path_or_name, device, "sentence encoder", fix))

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> Tensor:
        """N texts → (N, D) float32 on the CPU; each distinct text is read once."""
        unique = list(dict.fromkeys(texts))
        found: dict[int, Tensor] = {}
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
            found |= zip(rows, torch.nn.functional.normalize(means, dim=-1).cpu(), strict=True)
        place = {text: i for i, text in enumerate(unique)}
        return torch.stack([found[place[text]] for text in texts]) if texts else torch.zeros(0, 1)
