"""Corruption of captions: ungrammatical copies that a grammar classifier learns to separate from what people write.

The five ways are those of CLIP-Caption-Reward (arXiv 2205.13115, §3.3): repeating an n-gram, removing an n-gram,
inserting foreign words, swapping words, and shuffling all words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

MAX_CHANGES = 3
"""Largest number of words of an n-gram, of repetitions, of inserted words, and of swapped pairs."""

Corrupt = Callable[[list[str], random.Random, Sequence[str]], list[str]]
"""A function (words, rng, words to insert) → changed words."""


def repeat(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """Repeat an n-gram of up to three words up to three times."""
    start, end = _span(words, rng)
    return words[:end] + words[start:end] * rng.randint(1, MAX_CHANGES) + words[end:]


def remove(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """Remove up to three consecutive words; at least one word stays."""
    start, end = _span(words, rng)
    return words[:start] + words[end:] or words[:1]


def insert(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """Insert up to three of the words `others` at random positions."""
    out = list(words)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        out.insert(rng.randint(0, len(out)), rng.choice(others))
    return out


def swap(words: list[str], rng: random.Random, _others: Sequence[str] = ()) -> list[str]:
    """Swap up to three pairs of words."""
    out = list(words)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        i, j = rng.randrange(len(out)), rng.randrange(len(out))
        out[i], out[j] = out[j], out[i]
    return out


def shuffle(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """Return all words in random order."""
    return rng.sample(words, len(words))


WAYS: Mapping[str, Corrupt] = {
    "repeat": repeat,
    "remove": remove,
    "insert": insert,
    "swap": swap,
    "shuffle": shuffle,
}
"""Name → function that corrupts a text."""


def corrupt(text: str, rng: random.Random, others: Sequence[str], tries: int = 8) -> str | None:
    """Corrupt a text in one of `WAYS`, drawn at random.

    Args:
        text: the text; spaces separate its words, so that a full stop moves with its word.
        rng: source of randomness.
        others: words that may be inserted.
        tries: number of attempts.

    Returns:
        The corrupted text; None where no attempt changes the text (a single word).
    """
    words = text.split()
    for _ in range(tries):
        way = WAYS[rng.choice(tuple(WAYS))]
        if words and (corrupted := way(words, rng, others or words)) != words:
            return " ".join(corrupted)
    return None


def _span(words: Sequence[str], rng: random.Random) -> tuple[int, int]:
    """Return the start and the end (exclusive) of a random n-gram of up to three words."""
    length = rng.randint(1, min(MAX_CHANGES, len(words)))
    start = rng.randrange(len(words) - length + 1)
    return start, start + length
