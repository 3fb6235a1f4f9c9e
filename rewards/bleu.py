"""BLEU: do the caption's n-grams also occur in the references?

measures  r = brevity penalty · geometric mean of the clipped n-gram precisions, n ≤ order
range     [0, 1]
needs     references
cost      none; it only counts n-grams
source    BLEU (Papineni et al., ACL 2002) of one sentence, as pycocoevalcap computes it; equal to within 1e-6 on COCO's
          captions with the same words. Published values use the tokenizer ptb, which counts "'s" and symbols as words
hack      words that most references share. With order 4 most captions get almost nothing, so that many groups have zero
          variance; order 1 or 2 tells single captions apart better
guards    self-retrieval against captions that are all alike; the references must be as long as the captions that you
          want
fails     cut_off, one_missing; measured for order 4, on paragraphs that are compared with short references (lab). With
          order 1 it also fails word_shuffle
"""

from __future__ import annotations

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.overlap import bleu
from rlcap.scorers.text.tokenizers import TokenizerName, get_tokenizer
from rlcap.types import RewardBatch, Score


class Bleu(Reward):
    """BLEU as a reward. The empty caption gets 0.

    Args:
        order: length of the longest n-gram, 1 to 4.
        tokenizer: what splits texts into words: `words`, or `ptb` as in published values.
    """

    name, range, needs, version = "bleu", (0.0, 1.0), frozenset({"references"}), "2"

    def __init__(self, order: int = 4, tokenizer: TokenizerName = "words") -> None:
        if not 1 <= order <= 4:
            raise ValueError(f"order is the longest n-gram, 1 to 4, got {order}")
        get_tokenizer(tokenizer)  # refuses a name that does not exist
        self.order, self.tokenizer = order, tokenizer

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without references abstains."""
        return RewardOutput(
            [self._one(caption, s.references) for caption, s in zip(batch.captions, batch.samples, strict=True)]
        )

    def _one(self, caption: str, references: tuple[str, ...]) -> Score:
        texts = list(references)
        if not texts:
            return Score.abstain("no reference to compare with")
        return Score(min(1.0, bleu(caption, texts, self.order, self.tokenizer)))
