"""Words, distinct n-grams and repeated n-grams of a text, for any script.

>>> repeated_share(tokenize("a cat and a cat and a cat"), 3)   # 6 trigrams, 3 of them seen before
0.5
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# In scripts without spaces each character is a word; elsewhere a word keeps its inner apostrophes and hyphens.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])[^\W_])+"
    r"(?:['’-](?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])[^\W_])+)*"
)


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words without punctuation.

    The result is close to PTB tokenisation on English, and needs no Java.
    """
    return _WORD.findall(text.lower())


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
