"""Log-probabilities of tokens without holding all logits in memory.

The logits of 16 captions of 200 tokens over a vocabulary of 150,000 words take 2 GB, and each step of a softmax takes
as much again. So the model runs up to its last layer, and this module applies the last layer to as many tokens at a
time as `MAX_LOGITS` allows. The backward pass recomputes each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rlcap.policy.tokens import entropy, token_log_probs

MAX_LOGITS = 2**26
"""Number of logits computed at a time: 256 MB in single precision."""


def find_separable_head(base: Any) -> nn.Module | None:
    """Return the layer from states to logits; None where the model has none, or changes the logits afterwards."""
    if getattr(base.config.get_text_config(), "final_logit_softcapping", None) is not None:
        return None
    return base.get_output_embeddings()


@contextmanager
def skip_head(head: nn.Module | None) -> Iterator[None]:
    """Inside this context, the model returns the inputs of its head in place of logits. None changes nothing."""
    if head is None:
        yield
        return
    head.forward = lambda states: states
    try:
        yield
    finally:
        del head.forward


def compute_log_probs(
    states: torch.Tensor, ids: torch.Tensor, head: nn.Module | None, temperature: float = 1.0, entropies: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute the log-probabilities of tokens, and optionally the entropies of the distributions.

    Args:
        states: (N, C, D) inputs of the head, or logits (N, C, V) where `head` is None.
        ids: (N, C) the tokens that the states predict.
        head: the layer from states to logits.
        temperature: divisor of the logits.
        entropies: whether to compute the entropies as well.

    Returns:
        (N, C) log-probabilities in nats, and (N, C) entropies in nats or None.
    """
    if head is None:
        return token_log_probs(states, ids, temperature), entropy(states, temperature) if entropies else None
    weight: Any = head.weight
    vocabulary = getattr(weight, "ds_shape", weight.shape)[0]  # under ZeRO-3, `shape` is that of an empty tensor
    rows_per_chunk = max(1, MAX_LOGITS // vocabulary)

    def compute_chunk(states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = head(states.to(weight.dtype))
        rows = [token_log_probs(logits, ids, temperature)]
        return torch.stack([*rows, entropy(logits, temperature)] if entropies else rows)

    single_pass = ids.numel() <= rows_per_chunk or not torch.is_grad_enabled()
    run: Callable[..., torch.Tensor] = compute_chunk if single_pass else _recompute_in_backward(compute_chunk)
    chunks = zip(states.flatten(0, 1).split(rows_per_chunk), ids.flatten().split(rows_per_chunk), strict=True)
    results = torch.cat([run(*values) for values in chunks], 1).view(-1, *ids.shape)
    return results[0], results[1] if entropies else None


def _recompute_in_backward(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *values: checkpoint(function, *values, use_reentrant=False, preserve_rng_state=False)
