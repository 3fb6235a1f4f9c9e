"""Hedges: words with which a text mentions something without claiming it ("possibly a dog", "a dog or a cat").

A judge of claims finds nothing wrong with "there might be a dog". So a policy that is rewarded for claims without
errors learns to hedge (ClaimDiff-RL adds an ambiguity penalty against it). Scorers therefore also judge the claim
without its hedges.
"""

from __future__ import annotations

import functools
import re

_ADVERB = (
    r"(?:maybe|perhaps|possibly|probably|presumably|likely|apparently|seemingly|supposedly|potentially|conceivably)"
)
_MODAL = r"(?:may|might|could|would|must)"
_SEEM = r"(?:seem|appear|look)s?"

# The order matters: "might possibly be" loses first its adverb, then its modal verb.
_BARE = (
    (re.compile(r"\b(?:I|we) (?:think|believe|guess|suppose|assume)(?: that)?\b,?", re.I), ""),
    (re.compile(r"\bit (?:is|'s|may be|might be|could be) (?:possible|likely|probable)(?: that)?\b", re.I), ""),
    (re.compile(rf"\b(?:it|there) {_SEEM}(?: to me)? (?:like|as if|that)\b", re.I), ""),
    (re.compile(rf"\b{_ADVERB}\b,?", re.I), ""),
    (re.compile(rf"\bthere {_MODAL}(?: also)? be\b", re.I), "there is"),
    (re.compile(rf"\b{_MODAL}(?: also)? have been\b", re.I), "was"),
    (re.compile(rf"\b{_MODAL}(?: also)? be\b(?! seen| found| heard)", re.I), "is"),
    (re.compile(rf"\bthere {_SEEM} to be\b", re.I), "there is"),
    (re.compile(rf"\b{_SEEM} to be\b", re.I), "is"),
    (re.compile(r"\b(?:some (?:kind|sort|type) of|something like|what looks like|what appears to be)\b", re.I), ""),
    (re.compile(r"\b(?:kind|sort) of\b", re.I), ""),
    (re.compile(r"\?"), "."),
)
_UNDECIDED = re.compile(rf"\b(?:or|either|{_MODAL} not|not sure|unclear|unsure|hard to (?:tell|say|see))\b", re.I)


@functools.lru_cache(maxsize=4096)  # captions of one image repeat each other's sentences
def is_hedged(text: str) -> bool:
    """Return whether the sentence is hedged: by a hedge word, a question, or a choice ("either … or")."""
    return bool(_UNDECIDED.search(text)) or is_guess(text)


@functools.lru_cache(maxsize=4096)
def is_guess(text: str) -> bool:
    """Return whether the sentence contains a guess ("maybe", "there might be", "seems to be"); "or" is not a guess."""
    return any(pattern.search(text) for pattern, _ in _BARE)


@functools.lru_cache(maxsize=4096)
def strip_hedges(text: str) -> str:
    """Return the sentence without its hedges: "There might possibly be a dog." becomes "there is a dog."."""
    text = re.sub(r"\s+", " ", text)
    for pattern, replacement in _BARE:
        bare, count = pattern.subn(replacement, text)
        text = re.sub(r"\s+", " ", bare) if count else text
    return re.sub(r"[\s,]+(?=[.;!])|\s+(?=,)", "", text).strip(" ,")
