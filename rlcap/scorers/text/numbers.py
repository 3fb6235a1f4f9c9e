"""Spelling out of counts, since an encoder places "2 dogs" far from "two dogs"."""

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
    """Write counts up to twenty as words: "2 dogs" → "two dogs".

    Times, prices, scores, decimals, names ("B2") and larger numbers stay, since they are readings and not counts.
    """
    return _COUNT.sub(
        lambda match: WORDS[int(match.group())] if int(match.group()) < len(WORDS) else match.group(), text
    )
