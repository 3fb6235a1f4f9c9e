"""Gradient checkpointing over a shared prefix.

transformers takes the cache away from a checkpointed layer, since most caches would grow once more when the layer is
run again in the backward pass. Those of `prefix_cache` answer the same however often they are asked, and keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpointed_layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers that would be run again in the backward pass, as the model is now (none in evaluation mode)."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing and layer.training
    ]


def is_reentrant(layer: GradientCheckpointingLayer) -> bool:
    """Whether torch's old variant is in use: it gives no gradient to what a layer reads from a cache."""
    return bool(getattr(layer._gradient_checkpointing_func, "keywords", {}).get("use_reentrant", True))


@contextmanager
def keeping_the_cache(model: nn.Module) -> Iterator[None]:
    """Within, checkpointed layers read and fill the cache that they are given."""
    layers = checkpointed_layers(model)
    for layer in layers:
        layer._can_checkpoint_with_cache = True
    try:
        yield
    finally:
        for layer in layers:
            del layer._can_checkpoint_with_cache
