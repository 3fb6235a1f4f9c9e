"""Where in a caption is what a judge says of it? A judge quotes, shortens and rewords; its words are aligned with the caption's.

    quoted word for word     the characters of the quotation
    reworded                 the sentence that shares most of the quotation's words, weighted by how rare they are in the caption
    nothing in common        the whole caption

So "the ball is blue" finds "There is a small blue ball at the top." in a caption that also says "The blue box is to the left of the
ball.", because "small", "box" and so on do not matter and both words of the claim stand together in the first sentence.
"""

from __future__ import annotations

import re
from collections import Counter

from rlcap.scorers.objects.vocabulary import fold_words
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.numbers import spell_out_counts
from rlcap.scorers.text.sentences import sentence_spans

LEAST_OVERLAP = 0.5
"""Share of a quotation's weighted words that a sentence must contain; with fewer, the sentence is about something else."""
_EMPTY = frozenset(
    tokenize("a an the is are was were be there it its of in on at to and or this that image picture caption says say")
)
"""Words that say nothing about which sentence is meant."""
_QUOTED = re.compile(r"\"([^\"]{3,})\"|“([^”]{3,})”|'([^']{3,})'(?!\w)")


def quotations(text: str) -> list[str]:
    """Return the parts of a judge's text that stand in quotation marks, without the marks."""
    return [next(part for part in match if part) for match in _QUOTED.findall(text)]


def locate(quotation: str, caption: str) -> tuple[int, int]:
    """Return (start, end), in characters of the caption, of the part that a quotation is about.

    Args:
        quotation: the judge's words, literal or not.
        caption: the caption, which is not empty.
    """
    literal = quotation.strip().strip(".!?\"'“”")
    position = caption.lower().find(literal.lower()) if len(caption.lower()) == len(caption) else caption.find(literal)
    if literal and position >= 0:
        return position, position + len(literal)
    spans = sentence_spans(caption)
    sentences = [_content_words(caption[start:end]) for start, end in spans]
    wanted = _content_words(quotation)
    frequency = Counter(word for words in sentences for word in words)
    weights = {word: 1 / frequency[word] if frequency[word] else 0.5 for word in wanted}
    total = sum(weights.values())
    shares = [sum(weights[word] for word in wanted & words) / total if total else 0.0 for words in sentences]
    # The first of the sentences with the highest share: later ones often repeat it.
    best = max(range(len(shares)), key=lambda i: shares[i], default=None)
    return spans[best] if best is not None and shares[best] >= LEAST_OVERLAP else (0, len(caption))


def _content_words(text: str) -> frozenset[str]:
    """Return the words of a text that say something, in the singular and with counts as words."""
    return frozenset(fold_words(spell_out_counts(text))) - _EMPTY
