"""Gradient checkpointing over a shared prefix.

transformers removes the cache from a checkpointed layer, since most caches would grow a second time when the backward
pass runs the layer again. The caches of `rlcap.policy.shared_prefix.kv_cache` return the same result for each call, so
they can be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def find_checkpointable_layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """Return the layers that can be checkpointed. The search takes milliseconds: do it once, not per token."""
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def select_checkpointed(layers: Sequence[GradientCheckpointingLayer]) -> list[GradientCheckpointingLayer]:
    """Return the layers that the backward pass would run again in the current mode (none in evaluation mode)."""
    return [layer for layer in layers if layer.gradient_checkpointing and layer.training]


def is_reentrant(layer: GradientCheckpointingLayer) -> bool:
    """Return whether the layer uses torch's reentrant variant, which gives cached values no gradient."""
    return bool(getattr(layer._gradient_checkpointing_func, "keywords", {}).get("use_reentrant", True))


@contextmanager
def keep_cache(layers: Sequence[GradientCheckpointingLayer]) -> Iterator[None]:
    """Inside this context, checkpointed layers use the cache that is passed to them.

    Args:
        layers: the layers, as from `select_checkpointed`.
    """
    for layer in layers:
        layer._can_checkpoint_with_cache = True
    try:
        yield
    finally:
        for layer in layers:
            del layer._can_checkpoint_with_cache


@contextmanager
def recompute_within(model: nn.Module, context: Callable[[nn.Module], AbstractContextManager]) -> Iterator[None]:
    """Recompute the checkpointed layers of forwards in this context inside `context(layer)`.

    Without it, a layer that ran with one adapter would be recomputed with the adapter that is active during the
    backward pass.
    """
    layers: list[Any] = select_checkpointed(find_checkpointable_layers(model))
    before = [layer._gradient_checkpointing_func for layer in layers]
    for layer, checkpoint in zip(layers, before, strict=True):
        # keep the keywords: `is_reentrant` reads them
        keywords = getattr(checkpoint, "keywords", {})
        layer._gradient_checkpointing_func = partial(_checkpoint_in, checkpoint, context, layer, **keywords)
    try:
        yield
    finally:
        for layer, checkpoint in zip(layers, before, strict=True):
            layer._gradient_checkpointing_func = checkpoint


def _checkpoint_in(
    checkpoint: Callable, context: Callable, layer: nn.Module, run: Callable, *inputs: Any, **options: Any
) -> Any:
    def run_in_context(*values: Any, **keywords: Any) -> Any:
        with context(layer):
            return run(*values, **keywords)

    return checkpoint(run_in_context, *inputs, **options)
