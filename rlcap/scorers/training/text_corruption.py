"""Captions made ungrammatical on purpose: what a classifier of grammar learns to tell from captions as people write them.

The five ways of CLIP-Caption-Reward (arXiv 2205.13115, §3.3): an n-gram said again, an n-gram left out, foreign words put
in, words that change places, all words shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

LONGEST = 3
"""Words of an n-gram, times that it is said, words put in, pairs that change places: at most."""

Corrupt = Callable[[list[str], random.Random, Sequence[str]], list[str]]
"""(words, rng, words to put in) → other words."""


def repeat(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """An n-gram of up to three words said again, up to three times."""
    start, end = _span(words, rng)
    return words[:end] + words[start:end] * rng.randint(1, LONGEST) + words[end:]


def remove(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """Up to three words in a row left out; one stays."""
    start, end = _span(words, rng)
    return words[:start] + words[end:] or words[:1]


def insert(words: list[str], rng: random.Random, others: Sequence[str]) -> list[str]:
    """Up to three of `others` put in at random places."""
    out = list(words)
    for _ in range(rng.randint(1, LONGEST)):
        out.insert(rng.randint(0, len(out)), rng.choice(others))
    return out


def swap(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """Up to three pairs of words change places."""
    out = list(words)
    for _ in range(rng.randint(1, LONGEST)):
        i, j = rng.randrange(len(out)), rng.randrange(len(out))
        out[i], out[j] = out[j], out[i]
    return out


def shuffle(words: list[str], rng: random.Random, _: Sequence[str] = ()) -> list[str]:
    """All words in another order."""
    return rng.sample(words, len(words))


WAYS: Mapping[str, Corrupt] = {
    "repeat": repeat,
    "remove": remove,
    "insert": insert,
    "swap": swap,
    "shuffle": shuffle,
}


def corrupt(text: str, rng: random.Random, others: Sequence[str], tries: int = 8) -> str | None:
    """The text spoilt in one of `WAYS`, drawn at random; None where nothing comes out different (a single word).

    others: words that may be put in. Words are what spaces part, so that a full stop moves with its word.
    """
    words = text.split()
    for _ in range(tries):
        way = WAYS[rng.choice(tuple(WAYS))]
        if words and (spoilt := way(words, rng, others or words)) != words:
            return " ".join(spoilt)
    return None


def _span(words: Sequence[str], rng: random.Random) -> tuple[int, int]:
    """First and last-but-one place of a random n-gram of up to three words."""
    length = rng.randint(1, min(LONGEST, len(words)))
    start = rng.randrange(len(words) - length + 1)
    return start, start + length
