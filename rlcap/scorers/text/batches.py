"""Texts as tokenizers want them: in batches of like length, so that padding is little, and without halves of characters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Row numbers in batches, longest first (so that a batch that doesn't fit in memory fails at once)."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def replace_lone_surrogates(text: str) -> str:
    """The text with a ? for each half of a surrogate pair (JSON can hold one), on which fast tokenizers raise a TypeError."""
    return text.encode("utf-8", "replace").decode()
