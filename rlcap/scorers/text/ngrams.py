"""Words, distinct n-grams and repeated n-grams of a text, for any script.

>>> repeated_share(tokenize("a cat and a cat and a cat"), 3)   # 6 trigrams, 3 of them seen before
0.5
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
_NO_SPACES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000-\U0001b16f"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"  # Han
)
"""Blocks of the scripts that write no spaces between words."""
_SAME = str.maketrans(dict.fromkeys("’‘‛ʼ＇", "'") | dict.fromkeys("‐‑", "-"))
"""Typographic apostrophes and hyphens → their ASCII forms. Dashes stay, since they join no words."""
_ZERO_WIDTH_SPACE = "\u200b"
_PLANES = (*range(0x20000), *range(0xE0000, 0xE0200))
"""The code points that can be marks or format characters."""


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words without punctuation.

    A word is a run of letters and digits, with its inner apostrophes and hyphens ("dog's", "t-shirt"). In scripts
    without spaces each letter is a word. A combining mark belongs to the letter before it, as vowel signs do in
    Devanagari, Thai and Arabic. Spellings that look the same give the same words: "é" as one character or two, "’" or
    "'", with or without a zero-width joiner.

    The result is close to PTB tokenisation on English, and needs no Java. `rlcap.scorers.text.ptb` reproduces PTB.
    """
    text = text.lower()
    if text.isascii():
        return _ASCII_WORD.findall(text)
    return _unicode_word().findall(unicodedata.normalize("NFC", text).translate(_SAME).translate(_invisible()))


@functools.cache  # building the tables takes some time, which ASCII texts need not spend
def _unicode_word() -> re.Pattern[str]:
    marks = _character_ranges(code for code in _PLANES if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    letter = rf"(?:(?![{_NO_SPACES}])[^\W_][{marks}]*)"
    return re.compile(rf"(?![\W_])[{_NO_SPACES}][{marks}]*|{letter}+(?:['-]{letter}+)*")


@functools.cache
def _invisible() -> dict[int, None]:
    """Return what changes how letters join, run or look, and not which they are: joiners and variation selectors."""
    selectors = [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
    formats = [code for code in _PLANES if unicodedata.category(chr(code)) == "Cf"]
    return dict.fromkeys(code for code in (*selectors, *formats) if chr(code) != _ZERO_WIDTH_SPACE)  # separates words


def _character_ranges(codes: Iterable[int]) -> str:
    """Return ascending code points as the ranges of a regular expression's character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Return the len(tokens) − n + 1 runs of n words.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n-grams need n >= 1, got {n}")
    return zip(*(tokens[i:] for i in range(n)), strict=False)


def distinct(tokens: Sequence[str], n: int) -> float:
    """Return distinct-n (Li et al. 2016): distinct n-grams over all n-grams, in [0, 1]; 1 where there is none."""
    runs = list(ngrams(tokens, n))
    return len(set(runs)) / len(runs) if runs else 1.0


def repeated_share(tokens: Sequence[str], n: int) -> float:
    """Return the share of n-grams that repeat an earlier one: 1 − distinct-n, in [0, 1); 0 where there is none."""
    return 1.0 - distinct(tokens, n)


def repeated_lines(lines: Sequence[str]) -> float:
    """Return the share of lines (sentences) that repeat the words of an earlier line in the same order, in [0, 1)."""
    keys = [tuple(tokenize(line)) for line in lines]
    keys = [key for key in keys if key]
    return 1.0 - len(set(keys)) / len(keys) if keys else 0.0


def repeated_words(tokens: Sequence[str], orders: Sequence[int]) -> list[bool]:
    """Return for each word whether it ends an n-gram, with n in `orders`, that occurred before in the text.

    The words of the first occurrence and the first n − 1 words of the second one are not marked: the repetition begins where
    the second n-gram is complete.
    """
    marked = [False] * len(tokens)
    for n in orders:
        seen: set[tuple[str, ...]] = set()
        for i, run in enumerate(ngrams(tokens, n)):
            marked[i + n - 1] |= run in seen
            seen.add(run)
    return marked


def word_positions(text: str) -> list[tuple[int, int] | None]:
    """Return (start, end) in characters of each word of `tokenize(text)`; None for a word that the text spells in another way."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters are longer in lower case, which would shift all positions
        return [None] * len(tokenize(text))
    positions: list[tuple[int, int] | None] = []
    position = 0
    for word in tokenize(text):
        start = lowered.find(word, position)
        positions.append(None if start < 0 else (start, start + len(word)))
        position = position if start < 0 else start + len(word)
    return positions
