"""Repetition: the share of a caption that repeats what it has said before.

measures  r = −max(0, s − free) / (1 − free), where s is the maximum of two shares: repeated n-grams / n-grams, over all
          n, and repeated sentences / sentences. The share `free`, which plain prose repeats anyway, costs nothing
range     [-1, 0]; 0 where nothing is said twice
needs     nothing
cost      none; it only counts n-grams
source    1 − distinct-n (Li et al. 2016); VLRM's repetition penalty (arXiv 2404.01911)
hack      paraphrases; new words around a repetition dilute it; the empty caption (0, because it repeats nothing).
          Without the free share any padding won: praise of the caption itself beat 100 % of the lab's plain captions,
          whose sentences begin alike
guards    length punishes silence; hallucination and critique notice paraphrases
fails     empty, one_word, cut_off, word_shuffle, echo, other_image, generic, one_false, foreign, injection, praise, hedged; on
          17 to 24 % of the lab's images, where the good caption repeats more than is free. None on captions that people
          wrote of photos
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.ngrams import repeated_lines, repeated_share, repeated_words, tokenize, word_positions
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Score, Span


def repetition(caption: str, orders: Sequence[int] = (3, 4)) -> float:
    """Return the largest share of repeated n-grams (n in `orders`) or of repeated sentences, in [0, 1)."""
    words = tokenize(caption)
    return max(repeated_lines(split_sentences(caption)), *(repeated_share(words, n) for n in orders))


def penalty(share: float, free: float = 0.2) -> float:
    """Return a value in [-1, 0] for a share of repetition in [0, 1]: 0 up to `free`, then linearly down to -1."""
    return -max(0.0, share - free) / (1 - free)


def repeated_spans(caption: str, orders: Sequence[int]) -> tuple[Span, ...]:
    """Return a span of value −1 for each word that completes an n-gram which the caption has said before."""
    marked = repeated_words(tokenize(caption), orders)
    return tuple(
        Span(*position, -1.0, "repeated")
        for position, is_repeated in zip(word_positions(caption), marked, strict=True)
        if is_repeated and position
    )


class Repetition(Reward):
    """Repetition within a caption as a reward.

    Args:
        orders: the n of the n-grams. Below 3, ordinary prose ("a … and a …") counts as repetition.
        free: share in [0, 1) that costs nothing. Plain captions whose sentences begin alike repeat a tenth of their
            trigrams.
    """

    name, range, version = "repetition", (-1.0, 0.0), "3"

    def __init__(self, orders: Sequence[int] = (3, 4), free: float = 0.2) -> None:
        if not orders or min(orders) < 1:
            raise ValueError(f"orders must be n-gram lengths of at least 1, got {list(orders)}")
        if not 0 <= free < 1:
            raise ValueError(f"free is a share and must lie in [0, 1), got {free}")
        self.orders, self.free = tuple(orders), free

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions."""
        return RewardOutput(
            [
                Score(penalty(repetition(caption, self.orders), self.free), spans=repeated_spans(caption, self.orders))
                for caption in batch.captions
            ]
        )
