"""BLEU and ROUGE-L of one caption: how much of its wording do the references share?

Words are those of `rlcap.scorers.text.ngrams.tokenize`; on equal words the values are pycocoevalcap's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rlcap.scorers.text.ngrams import ngrams, tokenize

TINY, SMALL = 1e-15, 1e-9
"""What pycocoevalcap adds to matches and to counts, so that an order without a match makes the value tiny and not 0."""
BETA = 1.2
"""Weight of recall over precision in ROUGE-L (Lin 2004), as COCO's evaluation has it."""


def bleu(caption: str, references: Sequence[str], order: int = 4) -> float:
    """BLEU of one sentence (Papineni et al. 2002), in [0, 1]: geometric mean of the clipped precisions of n-grams of 1 to
    `order` words, times the brevity penalty against the reference of the nearest length (the shorter one of two).

    ValueError without references.
    """
    words, texts = tokenize(caption), _tokenized(references)
    if not words:
        return 0.0
    product = 1.0
    for n in range(1, order + 1):
        said = Counter(ngrams(words, n))
        known: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            known |= Counter(ngrams(text, n))
        matched = sum(min(count, known[gram]) for gram, count in said.items())
        product *= (matched + TINY) / (max(0, len(words) - n + 1) + SMALL)
    nearest = min((abs(len(text) - len(words)), len(text)) for text in texts)[1]
    ratio = (len(words) + TINY) / (nearest + SMALL)
    return product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def rouge_l(caption: str, references: Sequence[str], beta: float = BETA) -> float:
    """ROUGE-L (Lin 2004) in [0, 1]: F-measure of the longest common subsequence; precision and recall each the best over
    references, as in COCO's evaluation. ValueError without references."""
    words, texts = tokenize(caption), _tokenized(references)
    common = [longest_common_subsequence(words, text) for text in texts]
    if not words or not any(common):
        return 0.0
    precision = max(length / len(words) for length in common)
    recall = max(length / len(text) for length, text in zip(common, texts, strict=True) if text)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length in words. Time is their product."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _tokenized(references: Sequence[str]) -> list[list[str]]:
    if not references:
        raise ValueError("BLEU and ROUGE need at least one reference")
    return [tokenize(text) for text in references]
