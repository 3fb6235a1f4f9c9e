"""Repetition: the share of a caption that it has said before.

measures  −max over n of (repeated n-grams / n-grams), and of repeated sentences / sentences
range     [-1, 0]; 0 where nothing is said twice
needs     nothing
cost      none: counts n-grams
source    1 − distinct-n (Li et al. 2016); VLRM's repetition penalty (arXiv 2404.01911)
hack      paraphrases, and the empty caption (0: it repeats nothing)
guards    length punishes silence; hallucination and critique read paraphrases
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.reward.base import Reward
from rlcap.scorers.ngrams import repeated_lines, repeated_share, tokenize
from rlcap.scorers.sentences import split_sentences
from rlcap.types import RewardBatch, Score


def repetition(caption: str, orders: Sequence[int] = (3, 4)) -> float:
    """Largest share of repeated n-grams (n in `orders`) or of repeated sentences, in [0, 1)."""
    words = tokenize(caption)
    return max(repeated_lines(split_sentences(caption)), *(repeated_share(words, n) for n in orders))


class Repetition(Reward):
    """orders: the n of the n-grams. Below 3, ordinary prose ("a … and a …") counts as repetition."""

    name, range, version = "repetition", (-1.0, 0.0), "1"

    def __init__(self, orders: Sequence[int] = (3, 4)) -> None:
        if not orders or min(orders) < 1:
            raise ValueError(f"orders must be n-gram lengths of at least 1, got {list(orders)}")
        self.orders = tuple(orders)

    def score(self, batch: RewardBatch) -> list[Score]:
        return [Score(-repetition(caption, self.orders)) for caption in batch.captions]
