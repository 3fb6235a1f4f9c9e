"""Keys and values of a prefix that several captions continue: read once, shared by all, with gradient.

    cache = recording()                     # a model reads image and instruction into it
    shared = continued(cache, captions=8)   # 8 captions a row go on from there; what they add is not kept
    growing = with_room(cache, 8, 200)      # the same for generation: up to 200 tokens are kept

Layers of the first two kinds may be asked twice for the same tokens and answer the same, which is what gradient
checkpointing does when it reads a layer again in the backward pass. A window of attention (Gemma 3's local layers)
needs no layer of its own: the mask hides what lies outside.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache


class _Recorded(DynamicLayer):
    """Keeps the keys and values of the one forward that it sees."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values, self.is_initialized = keys, values, True
        return keys, values


class _Fixed(DynamicLayer):
    """Puts the prefix before what it is given, and stays as it is."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([self.keys, keys], -2), torch.cat([self.values, values], -2)


class _Growing(DynamicLayer):
    """Writes tokens into room that was set aside: the prefix is not copied again for each of them."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, captions: int, room: int) -> None:
        super().__init__()
        self.length = keys.shape[-2]
        self._keys, self._values = _spacious(keys, captions, room), _spacious(values, captions, room)
        self._show()

    def _show(self) -> None:
        self.keys, self.values = self._keys[..., : self.length, :], self._values[..., : self.length, :]
        self.is_initialized = True

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_, **__) -> tuple[torch.Tensor, torch.Tensor]:
        end = self.length + keys.shape[-2]
        self._keys[..., self.length : end, :] = keys
        self._values[..., self.length : end, :] = values
        self.length = end
        self._show()
        return self.keys, self.values


def _spacious(prefix: torch.Tensor, captions: int, room: int) -> torch.Tensor:
    """(B, H, P, D) → (B·captions, H, P + room, D), the prefix in its first P places."""
    rows, heads, length, width = prefix.shape
    out = prefix.new_empty(rows, captions, heads, length + room, width)
    out[..., :length, :] = prefix[:, None]
    return out.flatten(0, 1)


def recording_cache(*, encoder_decoder: bool = False) -> Cache:
    """An empty cache for one forward over a prefix."""
    cache = Cache(layer_class_to_replicate=_Recorded)
    return EncoderDecoderCache(cache, Cache(layer_class_to_replicate=_Recorded)) if encoder_decoder else cache


def repeat_prefix(cache: Cache, captions: int) -> Cache:
    """The recorded prefix of B rows for B·captions rows, row-major, with gradient; forwards leave it as it is."""
    return _map(cache, lambda layer: _repeated(layer, captions), captions)


def repeat_prefix_with_room(cache: Cache, captions: int, tokens: int) -> Cache:
    """The recorded prefix of B rows for B·captions rows, with room for `tokens` more; for use without gradient."""
    return _map(cache, lambda layer: _Growing(layer.keys, layer.values, captions, tokens), captions)


def _repeated(layer: DynamicLayer, captions: int) -> DynamicLayer:
    return _Fixed(*(x.repeat_interleave(captions, 0) for x in (layer.keys, layer.values)))


def _map(cache: Cache, change: Callable[[DynamicLayer], DynamicLayer], captions: int) -> Cache:
    if not isinstance(cache, EncoderDecoderCache):
        return Cache(layers=[change(layer) for layer in cache.layers])
    # cross attention reads the encoder's keys and values, and never adds to them
    crossed = [_repeated(layer, captions) for layer in cache.cross_attention_cache.layers]
    return EncoderDecoderCache(_map(cache.self_attention_cache, change, captions), Cache(layers=crossed))
