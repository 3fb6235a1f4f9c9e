"""Log-probabilities without all logits at once: the last layer in pieces, made again in the backward pass.

16 captions of 200 tokens over 150,000 words are 2 GB of logits, and as much again for each step of a softmax. A model is
run up to its last layer, and the layer is run here, on as many tokens at a time as fit in `MAX_LOGITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rlcap.policy.tokens import entropy, token_log_probs

MAX_LOGITS = 2**26
"""Logits at a time: 256 MB in single precision."""


def find_separable_head(base: nn.Module) -> nn.Module | None:
    """The layer from states to logits; None where the model has none, or does something with the logits afterwards."""
    if getattr(base.config.get_text_config(), "final_logit_softcapping", None) is not None:
        return None
    return base.get_output_embeddings()


@contextmanager
def skip_head(head: nn.Module | None) -> Iterator[None]:
    """Within, a model gives the states that its head would see where it gives logits."""
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
    """(N, C) log-probabilities, and (N, C) entropies if asked for.

    Args:
        states: (N, C, D), or logits (N, C, V) where `head` is None.
        ids: (N, C) the tokens that they predict.
    """
    if head is None:
        return token_log_probs(states, ids, temperature), entropy(states, temperature) if entropies else None
    weight = head.weight
    rows = max(1, MAX_LOGITS // getattr(weight, "ds_shape", weight.shape)[0])  # under ZeRO-3 the shape itself is empty

    def piece(states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = head(states.to(weight.dtype))
        found = [token_log_probs(logits, ids, temperature)]
        return torch.stack([*found, entropy(logits, temperature)] if entropies else found)

    whole = ids.numel() <= rows or not torch.is_grad_enabled()
    run: Callable[..., torch.Tensor] = piece if whole else _again_in_backward(piece)
    pieces = zip(states.flatten(0, 1).split(rows), ids.flatten().split(rows), strict=True)
    found = torch.cat([run(*values) for values in pieces], 1).view(-1, *ids.shape)
    return found[0], found[1] if entropies else None


def _again_in_backward(piece: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *values: checkpoint(piece, *values, use_reentrant=False, preserve_rng_state=False)
