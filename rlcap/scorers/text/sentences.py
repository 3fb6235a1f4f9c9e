"""Splitting of a paragraph into sentences, so that a scorer with a short context (CLIP: 77 tokens) reads all of it."""

from __future__ import annotations

import functools
import re

_BREAK = re.compile(r"\n+|(?<=[.!?])[\"'”’)\]]*(?:\s+|$)|(?<=[a-z0-9][.!?])(?=[A-Z][a-z])")
_ABBREVIATION = re.compile(r"\b(?:[eE]\.g|[iI]\.e|etc|vs|approx|[fF]ig|cf|Mr|Mrs|Ms|Dr|St|Jr|Sr|[A-Z](?:\.[A-Z])*)\.$")


def split_sentences(text: str) -> list[str]:
    """Return the sentences of `text` in order, stripped, none of them empty; [] for an empty text.

    A sentence ends at a newline and after `.`, `!` or `?`, also where the space is missing ("a dog.Two cats"). It does
    not end inside numbers ("2.5"), after common abbreviations, or after initials ("J. Smith"). Pieces without any
    letter or digit ("...", "!") are joined to the sentence before them, or dropped where there is none.
    """
    return [sentence for sentence, _, _ in _split(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each sentence that `split_sentences` returns, in characters of `text`."""
    return [(start, end) for _, start, end in _split(text)]


@functools.lru_cache(maxsize=1024)  # the terms of a reward mix read the same captions
def _split(text: str) -> tuple[tuple[str, int, int], ...]:
    sentences: list[tuple[str, int, int]] = []
    open_end = False  # the previous piece ended in an abbreviation, so the next piece continues it
    start = 0
    for end, begin, newline in [*_breaks(text), (len(text), len(text), True)]:
        piece = text[start:end].strip()
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        last = first + len(piece)
        start = begin
        if not any(character.isalnum() for character in piece):
            if piece and sentences:
                sentences[-1] = (sentences[-1][0] + piece, sentences[-1][1], last)
        elif open_end:
            sentences[-1] = (f"{sentences[-1][0]} {piece}", sentences[-1][1], last)
            open_end = _continues(piece, newline)
        else:
            sentences.append((piece, first, last))
            open_end = _continues(piece, newline)
    return tuple(sentences)


def _breaks(text: str) -> list[tuple[int, int, bool]]:
    """Return (end of a sentence with its closing quotes, start of the next, whether a newline separates them)."""
    breaks = []
    for match in _BREAK.finditer(text):
        closing = len(match.group()) - len(match.group().lstrip("\"'”’)]"))
        breaks.append((match.start() + closing, match.end(), "\n" in match.group()))
    return breaks


def _continues(piece: str, newline: bool) -> bool:
    return not newline and _ABBREVIATION.search(piece) is not None
