"""Counts in figures as the words that people write: an encoder puts "2 dogs" far from "two dogs"."""

from __future__ import annotations

import re

WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_COUNT = re.compile(r"(?<![\w.,:/$#€£+-])\d{1,2}(?![\w:/%°-]|[.,]\d)")


def spell_out_counts(text: str) -> str:
    """The text with its counts up to twenty in words: "2 dogs" → "two dogs". Times, prices, scores, decimals, names ("B2")
    and larger numbers stay: they are read off something, and are no counts."""
    return _COUNT.sub(
        lambda found: WORDS[int(found.group())] if int(found.group()) < len(WORDS) else found.group(), text
    )
