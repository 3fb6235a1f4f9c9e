"""Log-probabilities, entropies and draws of tokens. Pure functions of logits.

Shapes: N captions, C tokens, V words of the vocabulary.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F


def token_log_probs(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """(…, V) logits, (…) ids → (…) log-probabilities in nats, float32, of the distribution at `temperature`."""
    scaled = _scaled(logits, temperature)
    return -F.cross_entropy(scaled.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """(…, V) logits → (…) entropies in nats, float32, of the distribution at `temperature`."""
    log_probs = _scaled(logits, temperature).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def keep_nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """(N, V) logits, those outside the smallest set of words with probability ≥ `top_p` at −inf.

    The likeliest word always stays (Holtzman et al. 2020, arXiv 1904.09751).
    """
    if top_p >= 1:
        return logits
    ordered, words = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, before >= top_p)
    return logits.masked_fill(outside, -torch.inf)


def draw(logits: torch.Tensor, temperature: float, top_p: float, sampling_uniforms: torch.Tensor) -> torch.Tensor:
    """(N, V) logits → (N,) ids, by the inverse of the distribution function at `sampling_uniforms`, (N,) float64 in [0, 1); the
    likeliest where `temperature` is 0."""
    if temperature == 0:
        return logits.argmax(-1)
    reached = keep_nucleus(_scaled(logits, temperature), top_p).softmax(-1).double().cumsum(-1)
    at = sampling_uniforms[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, at, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return logits.float() if temperature == 1 else logits.float() / temperature
