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

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache


class _RecordedLayer(DynamicLayer):
    """A cache layer that stores the keys and values of a single forward."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values, self.is_initialized = keys, values, True
        return keys, values


class _FixedLayer(DynamicLayer):
    """A cache layer that puts the prefix before new keys and values, and does not store these."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([self.keys, keys], -2), torch.cat([self.values, values], -2)


class _GrowingLayer(DynamicLayer):
    """A cache layer that writes tokens into preallocated room, so that the prefix is not copied for each token."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, captions: int, room: int) -> None:
        super().__init__()
        self.length = keys.shape[-2]
        self._keys, self._values = _allocate(keys, captions, room), _allocate(values, captions, room)
        self._expose()

    def _expose(self) -> None:
        self.keys, self.values = self._keys[..., : self.length, :], self._values[..., : self.length, :]
        self.is_initialized = True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + keys.shape[-2]
        self._keys[..., self.length : end, :] = keys
        self._values[..., self.length : end, :] = values
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


def _repeat_layer(layer: DynamicLayer, captions: int) -> DynamicLayer:
    return _FixedLayer(*(x.repeat_interleave(captions, 0) for x in (layer.keys, layer.values)))


def _map_layers(cache: Cache, change: Callable[[DynamicLayer], DynamicLayer], captions: int) -> Cache:
    if not isinstance(cache, EncoderDecoderCache):
        return Cache(layers=[change(layer) for layer in cache.layers])
    # cross attention reads the encoder's keys and values, and never adds any
    cross_layers = [_repeat_layer(layer, captions) for layer in cache.cross_attention_cache.layers]
    return EncoderDecoderCache(_map_layers(cache.self_attention_cache, change, captions), Cache(layers=cross_layers))
