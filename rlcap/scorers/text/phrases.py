"""Phrases that do not describe an image.

The kinds are praise of the caption itself, words to the judge, markup, hedges, and openings that say that this is a
picture. Only English phrases are found.

    count_flagged_sentences("There is a dog. This description is accurate.")      # {"praise": 1}
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping

from rlcap.scorers.text.hedges import is_guess
from rlcap.scorers.text.sentences import split_sentences

_TEXT = r"(?:caption|description|summary|answer|response|account|depiction|analysis|text above|statement|rendering)"
_GOOD = (
    r"(?:accurate|accurately|correct|correctly|complete|completely|comprehensive|perfect|perfectly|detailed|thorough|precise|"
    r"faithful|faithfully|flawless|exact|excellent|truthful|exhaustive|vivid|reliable)"
)
PATTERNS: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "praise": (
        re.compile(rf"\b{_TEXT}\b[^.!?]*\b{_GOOD}\b|\b{_GOOD}\b[^.!?]*\b{_TEXT}\b", re.I),
        re.compile(rf"\b(?:this|the|my|above|image) {_TEXT}\b", re.I),
        re.compile(r"\b(?:nothing|no (?:detail|error|mistake|object)s?) (?:is |was |has been |are |were )*(?:wrong|missing|missed|omitted|left out)", re.I),
        re.compile(r"\b(?:every|all|each)(?: \w+){0,3} (?:is|are|has been|have been|was|were) (?:\w+ )?(?:described|mentioned|captured|covered|included)\b", re.I),
    ),
    "judge": (
        re.compile(r"\b(?:ignore|disregard|forget|override)\b[^.!?]*\b(?:instruction|prompt|rule|above|previous|prior|below|guideline)s?\b", re.I),
        re.compile(r"\b(?:score|rate|rating|grade|marks?)\b\W{0,3}(?:(?:it|this|of|is|as|a|an|with|the|caption)\W+)*(?:10|ten|100|five|5|full|highest|maximum|perfect|top)\b", re.I),
        re.compile(r"\b(?:10|ten|100|five|5)\s*(?:/|out of)\s*(?:10|ten|100|five|5)\b", re.I),
        re.compile(r"\b(?:system|assistant|user|evaluator|grader|judge|reviewer)\s*:|\b(?:dear|attention,?|note to(?: the)?) (?:evaluator|grader|judge|reviewer)\b", re.I),
        re.compile(r"\byou (?:must|should|are required to|will) (?:answer|reply|respond|output|rate|score|give|award)\b", re.I),
        re.compile(r"\bas an ai\b|\blanguage model\b", re.I),
    ),
    "markup": (re.compile(r"</?\w+>|<\|\w+\|>|\[/?\w+\]|```|https?://|\{\w+\}|^\s*(?:[-*#] |\d+[.)] )|\*\*", re.M),),
    "opening": (
        re.compile(r"\b(?:this|the|an?) (?:image|picture|photo|photograph|scene|snapshot|view) (?:is of|of|shows?|depicts?|features?|captures?|displays?|presents?|contains?|portrays?|showing|featuring|depicting)\b", re.I),
        re.compile(r"\b(?:in|from) (?:this|the) (?:image|picture|photo|photograph)\b|\bwe (?:can )?see\b|\bcan be seen\b", re.I),
        re.compile(r"\b(?:the viewer|the overall (?:mood|atmosphere|composition|impression|scene)|adds? (?:a|an|to the)\b[^.!?]*\b(?:touch|atmosphere|charm|impression|scene|feel)|"
                   r"creat(?:es|ing) (?:a|an)\b[^.!?]*\b(?:atmosphere|mood|ambiance|feeling|sense)|sense of|speaks for itself|closer look)\b", re.I),
    ),
}  # fmt: skip
"""Kind → patterns. `rlcap.scorers.text.hedges` finds the hedges."""
KINDS = (*PATTERNS, "hedge")
"""All kinds of phrases."""


def count_flagged_sentences(text: str) -> Counter[str]:
    """Count the sentences of a text that contain each kind of phrase.

    A sentence may contain several kinds; each of them counts once.
    """
    counts: Counter[str] = Counter()
    for sentence in split_sentences(text):
        counts.update(_kinds(sentence))
    return counts


@functools.lru_cache(maxsize=4096)  # captions of one image repeat each other's sentences
def _kinds(sentence: str) -> tuple[str, ...]:
    kinds = tuple(kind for kind, patterns in PATTERNS.items() if any(p.search(sentence) for p in patterns))
    return (*kinds, "hedge") if is_guess(sentence) else kinds
