"""Key-value caches for a prefix that several captions continue: computed once and shared, with gradient.

    cache = recording_cache()                         # a forward over image and instruction fills it
    shared = repeat_prefix(cache, captions=8)         # 8 captions per row continue it; their tokens are not kept
    growing = repeat_prefix_with_room(cache, 8, 200)  # the same for generation: up to 200 tokens are kept

The layers of the first two kinds return the same result when they are called twice with the same tokens. Gradient
checkpointing relies on this, since it runs each layer again in the backward pass. Sliding-window attention (Gemma 3's
local layers) needs no layer class of its own: the mask hides what lies outside the window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache


class _RecordedLayer(DynamicLayer):
    """A cache layer that stores the keys and values of a single forward."""

    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values, self.is_initialized = key_states, value_states, True
        return key_states, value_states


class _FixedLayer(DynamicLayer):
    """A cache layer that puts the prefix before new keys and values, and does not store these."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2)


class _GrowingLayer(DynamicLayer):
    """A cache layer that writes tokens into preallocated room, so that the prefix is not copied for each token."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, captions: int, room: int) -> None:
        super().__init__()
        self.length = keys.shape[-2]
        self._keys, self._values = _allocate(keys, captions, room), _allocate(values, captions, room)
        self._expose()

    def _expose(self) -> None:
        self.keys, self.values = self._keys[..., : self.length, :], self._values[..., : self.length, :]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + key_states.shape[-2]
        self._keys[..., self.length : end, :] = key_states
        self._values[..., self.length : end, :] = value_states
        self.length = end
        self._expose()
        return self.keys, self.values


def _allocate(prefix: torch.Tensor, captions: int, room: int) -> torch.Tensor:
    """Copy a prefix (B, H, P, D) to the first P places of a new tensor (B·captions, H, P + room, D)."""
    rows, heads, length, width = prefix.shape
    out = prefix.new_empty(rows, captions, heads, length + room, width)
    out[..., :length, :] = prefix[:, None]
    return out.flatten(0, 1)


def recording_cache(*, encoder_decoder: bool = False) -> Cache:
    """Return an empty cache for one forward over a prefix."""
    cache = Cache(layer_class_to_replicate=_RecordedLayer)
    return EncoderDecoderCache(cache, Cache(layer_class_to_replicate=_RecordedLayer)) if encoder_decoder else cache


def repeat_prefix(cache: Cache, captions: int) -> Cache:
    """Repeat a recorded prefix of B rows for B·captions rows, row-major, with gradient; forwards do not change it."""
    return _map_layers(cache, lambda layer: _repeat_layer(layer, captions), captions)


def repeat_prefix_with_room(cache: Cache, captions: int, tokens: int) -> Cache:
    """Repeat a recorded prefix of B rows for B·captions rows, with room for `tokens` more; only without gradient."""
    return _map_layers(cache, lambda layer: _GrowingLayer(layer.keys, layer.values, captions, tokens), captions)


def _repeat_layer(layer: _RecordedLayer, captions: int) -> DynamicLayer:
    return _FixedLayer(*(x.repeat_interleave(captions, 0) for x in (layer.keys, layer.values)))


def _map_layers(cache: Cache, change: Callable[[_RecordedLayer], DynamicLayer], captions: int) -> Cache:
    if not isinstance(cache, EncoderDecoderCache):
        return Cache(layers=[change(layer) for layer in _recorded_layers(cache)])
    # cross attention reads the encoder's keys and values, and never adds any
    crossed = _recorded_layers(cache.cross_attention_cache)
    cross_cache = Cache(layers=[_repeat_layer(layer, captions) for layer in crossed])
    return EncoderDecoderCache(_map_layers(cache.self_attention_cache, change, captions), cross_cache)


def _recorded_layers(cache: Cache) -> list[_RecordedLayer]:
    """Return the layers of a cache from `recording_cache`, which are all of one class."""
    return cast("list[_RecordedLayer]", cache.layers)
