"""Gradient checkpointing over a shared prefix.

transformers takes the cache away from a checkpointed layer, since most caches would grow once more when the layer is
run again in the backward pass. Those of `prefix_cache` answer the same however often they are asked, and keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def find_checkpointable_layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers that can be checkpointed. To be kept by whoever asks for each token: finding them takes milliseconds."""
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def select_checkpointed(layers: Sequence[GradientCheckpointingLayer]) -> list[GradientCheckpointingLayer]:
    """Those that would be run again in the backward pass, as things are now (none in evaluation mode)."""
    return [layer for layer in layers if layer.gradient_checkpointing and layer.training]


def is_reentrant(layer: GradientCheckpointingLayer) -> bool:
    """Whether torch's old variant is in use: it gives no gradient to what a layer reads from a cache."""
    return bool(getattr(layer._gradient_checkpointing_func, "keywords", {}).get("use_reentrant", True))


@contextmanager
def keep_cache(layers: Sequence[GradientCheckpointingLayer]) -> Iterator[None]:
    """Within, checkpointed layers read and fill the cache that they are given. `layers`: as from `select_checkpointed`."""
    for layer in layers:
        layer._can_checkpoint_with_cache = True
    try:
        yield
    finally:
        for layer in layers:
            del layer._can_checkpoint_with_cache


@contextmanager
def recompute_within(model: nn.Module, context: Callable[[nn.Module], AbstractContextManager]) -> Iterator[None]:
    """Forwards within are run again in the backward pass inside `context(layer)`, whatever holds for the model by then.

    Otherwise a layer that was run with one adapter would be run again with the one that is active when the gradient comes.
    """
    layers = select_checkpointed(find_checkpointable_layers(model))
    before = [layer._gradient_checkpointing_func for layer in layers]
    for layer, checkpoint in zip(layers, before, strict=True):
        # a partial with the same keywords: `is_reentrant` reads them
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
