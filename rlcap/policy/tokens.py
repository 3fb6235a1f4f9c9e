"""Log-probabilities, entropies and sampling of tokens, as pure functions of logits.

Shapes: N captions, C tokens, V words of the vocabulary.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def token_log_probs(logits: torch.Tensor, ids: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return the log-probabilities of `ids` at `temperature`: (…, V) logits, (…) ids → (…) float32 in nats."""
    scaled = _scaled(logits, temperature)
    return -functional.cross_entropy(scaled.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return the entropies of the distributions at `temperature`: (…, V) logits → (…) float32 in nats."""
    log_probs = _scaled(logits, temperature).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def keep_nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Set the logits outside the nucleus to −inf: (N, V) → (N, V).

    The nucleus is the smallest set of words whose probability is at least `top_p` (Holtzman et al. 2020, arXiv
    1904.09751). The likeliest word always stays.
    """
    if top_p >= 1:
        return logits
    ordered, words = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, before >= top_p)
    return logits.masked_fill(outside, -torch.inf)


def sample_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, sampling_uniforms: torch.Tensor
) -> torch.Tensor:
    """Sample one token per row by inverting the cumulative distribution function.

    Args:
        logits: (N, V) logits.
        temperature: divisor of the logits; 0 takes the likeliest token.
        top_p: probability of the nucleus, as for `keep_nucleus`.
        sampling_uniforms: (N,) float64 in [0, 1), the points at which the function is inverted.

    Returns:
        (N,) token ids.
    """
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = keep_nucleus(_scaled(logits, temperature), top_p).softmax(-1).double().cumsum(-1)
    targets = sampling_uniforms[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _scaled(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return logits.float() if temperature == 1 else logits.float() / temperature
