"""BLEU and ROUGE-L of one caption: the overlap of its wording with the references.

On equal words, the values equal those of pycocoevalcap. Its words are those of the tokenizer `ptb`; see
`rlcap.scorers.text.tokenizers`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from rlcap.scorers.text.ngrams import ngrams
from rlcap.scorers.text.tokenizers import TokenizerName, get_tokenizer

TINY, SMALL = 1e-15, 1e-9
"""Amounts that pycocoevalcap adds to matches and counts, so that an order without a match gives a tiny value, not 0."""
BETA = 1.2
"""Weight of recall over precision in ROUGE-L (Lin 2004), as in COCO's evaluation."""


def bleu(caption: str, references: Sequence[str], order: int = 4, tokenizer: TokenizerName = "words") -> float:
    """Return the BLEU of one caption (Papineni et al. 2002), in [0, 1].

    BLEU is the geometric mean of the clipped precisions of n-grams of 1 to `order` words, times the brevity penalty.
    The penalty compares with the reference of the nearest length (the shorter one of two).

    Raises:
        ValueError: there are no references.
    """
    words, *texts = _tokenize(caption, references, tokenizer)
    if not words:
        return 0.0
    product = 1.0
    for n in range(1, order + 1):
        counts = Counter(ngrams(words, n))
        reference_counts: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            reference_counts |= Counter(ngrams(text, n))
        matched = sum(min(count, reference_counts[gram]) for gram, count in counts.items())
        product *= (matched + TINY) / (max(0, len(words) - n + 1) + SMALL)
    nearest = min((abs(len(text) - len(words)), len(text)) for text in texts)[1]
    ratio = (len(words) + TINY) / (nearest + SMALL)
    return product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def rouge_l(caption: str, references: Sequence[str], beta: float = BETA, tokenizer: TokenizerName = "words") -> float:
    """Return ROUGE-L (Lin 2004) in [0, 1]: the F-measure of the longest common subsequence.

    Precision and recall are each the best over the references, as in COCO's evaluation.

    Raises:
        ValueError: there are no references.
    """
    words, *texts = _tokenize(caption, references, tokenizer)
    common = [longest_common_subsequence(words, text) for text in texts]
    if not words or not any(common):
        return 0.0
    precision = max(length / len(words) for length in common)
    recall = max(length / len(text) for length, text in zip(common, texts, strict=True) if text)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in words, in time O(len(first) · len(second))."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


def _tokenize(caption: str, references: Sequence[str], tokenizer: TokenizerName) -> list[list[str]]:
    """Return the words of the caption, followed by those of each reference."""
    if not references:
        raise ValueError("BLEU and ROUGE need at least one reference")
    return list(map(get_tokenizer(tokenizer), (caption, *references)))
