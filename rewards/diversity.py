"""Diversity: does the caption say something that the other captions of its group don't say?

measures  r = 1 − mean over the group's other captions of the share of common n-grams (Jaccard, n ≤ 2)
range     [0, 1]; 0 where all captions say the same words
needs     nothing; at least two captions of the same image in the batch
cost      none; it only counts n-grams
source    the idea of 1 − self-BLEU (Zhu et al., SIGIR 2018), with a symmetric overlap and within the group of one image
hack      random words, other objects, another language: whatever differs is worth more
guards    every reward that looks at the image; a small weight. Use it to keep sampling diverse where groups lose their
          variance, not as a goal
fails     one_word, cut_off, repeated, word_shuffle, echo, other_image, generic, one_false, one_missing, rambling, foreign,
          injection, praise, hedged; this follows from its definition: any caption that differs from the good one wins
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.ngrams import ngrams, tokenize
from rlcap.types import RewardBatch, Score


def diversity(captions: Sequence[str], orders: Sequence[int] = (1, 2)) -> list[float]:
    """Compute 1 − mean overlap with the other captions for each of at least two captions.

    Args:
        captions: N captions of one image, N ≥ 2.
        orders: the n of the n-grams.

    Returns:
        N values in [0, 1]; 0 for a caption without words.
    """
    ngram_sets = [{gram for n in orders for gram in ngrams(tokenize(caption), n)} for caption in captions]
    values = []
    for i, mine in enumerate(ngram_sets):
        shares = [
            len(mine & other) / len(mine | other) for j, other in enumerate(ngram_sets) if j != i and mine | other
        ]
        values.append(1 - sum(shares) / len(shares) if mine else 0.0)
    return values


class Diversity(Reward):
    """Diversity within the captions of one image as a reward.

    The score depends on the captions of the same image in the batch and on no others; groups are never split between
    processes. A caption that is alone with its image abstains.

    Args:
        orders: the n of the n-grams.
    """

    name, range, version, group_dependent = "diversity", (0.0, 1.0), "2", True

    def __init__(self, orders: Sequence[int] = (1, 2)) -> None:
        if not orders or min(orders) < 1:
            raise ValueError(f"orders must be n-gram lengths of at least 1, got {list(orders)}")
        self.orders = tuple(orders)

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, group by group."""
        groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for i, sample in enumerate(batch.samples):
            groups[sample.id, sample.image].append(i)
        scores = [Score.abstain("no other caption of this image to differ from")] * len(batch)
        for rows in groups.values():
            if len(rows) > 1:
                values = diversity([batch.captions[i] for i in rows], self.orders)
                for i, value in zip(rows, values, strict=True):
                    scores[i] = Score(value)
        return RewardOutput(scores)
