"""Preparation of texts for tokenizers: batches of similar length, and no lone surrogates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield row numbers in batches of similar length, which keeps padding small.

    The longest rows come first, so that a batch that does not fit in memory fails at once.

    Raises:
        ValueError: batch_size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def replace_lone_surrogates(text: str) -> str:
    """Replace each lone surrogate by "?".

    JSON can contain such halves of a character, and fast tokenizers raise a TypeError for them.
    """
    return text.encode("utf-8", "replace").decode()
