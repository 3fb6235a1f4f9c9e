"""Which characters of a caption each of its tokens writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WINDOW = 12
"""Tokens that are decoded together. A character can be spread over four tokens; more context costs little."""


def token_offsets(tokenizer: Any, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return (start, end) of each token, in characters of the stripped caption that the tokens decode to.

    A special token, such as the end token, gets an empty range. Tokens that share a character, as those of an emoji do, get
    the same character.

    Args:
        tokenizer: the tokenizer of the captioner.
        ids: the tokens of one caption, without padding.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True)
    ends = _ends_by_windows(tokenizer, ids)
    if not ends or ends[-1] != len(text):  # a tokenizer whose spaces depend on more context
        ends = [len(prefix) for prefix in _decode_prefixes(tokenizer, ids)]
    # Half a character decodes to replacement characters, of which there can be more than characters in the end.
    latest = len(text)
    for position in reversed(range(len(ends))):
        latest = ends[position] = min(ends[position], latest)
    whole, special = text.strip(), set(tokenizer.all_special_ids)
    offset = len(text) - len(text.lstrip())
    offsets = []
    for token, start, end in zip(ids, [0, *ends][: len(ends)], ends, strict=True):
        first = end - 1 if start == end and token not in special else start
        offsets.append((min(max(first - offset, 0), len(whole)), min(max(end - offset, 0), len(whole))))
    return offsets


def _ends_by_windows(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Return the length of the text after each token, from windows of neighbouring tokens."""
    prefixes = [list(ids[max(0, i - WINDOW) : i]) for i in range(len(ids))]
    shorter = tokenizer.batch_decode(prefixes, skip_special_tokens=True)
    longer = tokenizer.batch_decode([[*p, ids[i]] for i, p in enumerate(prefixes)], skip_special_tokens=True)
    ends, end = [], 0
    for before, after in zip(shorter, longer, strict=True):
        end += len(after) - len(before)
        ends.append(end)
    return ends


def _decode_prefixes(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    texts: list[str] = tokenizer.batch_decode([list(ids[: i + 1]) for i in range(len(ids))], skip_special_tokens=True)
    return texts
