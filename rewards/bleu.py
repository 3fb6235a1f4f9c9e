"""BLEU: are the caption's n-grams among the references'?

measures  r = brevity penalty · geometric mean of the clipped n-gram precisions, n ≤ order
range     [0, 1]
needs     references
cost      none: counts n-grams
source    BLEU (Papineni et al., ACL 2002) of one sentence, as pycocoevalcap computes it; equal to 1e-6 on COCO's captions
hack      the words that most references share; with order 4 most captions get next to nothing, and groups are dead: order 1
          or 2 says more of single captions
guards    self-retrieval against sameness; references must be as long as the captions that are wanted
fails     cut_off, one_missing; of order 4, for paragraphs held to short references (lab); of order 1 salad too
"""

from __future__ import annotations

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.overlap import bleu
from rlcap.types import RewardBatch, Score


class Bleu(Reward):
    """order: longest n-gram, 1 to 4. The empty caption gets 0."""

    name, range, needs, version = "bleu", (0.0, 1.0), frozenset({"references"}), "1"

    def __init__(self, order: int = 4) -> None:
        if not 1 <= order <= 4:
            raise ValueError(f"order is the longest n-gram, 1 to 4, got {order}")
        self.order = order

    def score(self, batch: RewardBatch) -> RewardOutput:
        return RewardOutput(
            [self._one(caption, s.references) for caption, s in zip(batch.captions, batch.samples, strict=True)]
        )

    def _one(self, caption: str, references: tuple[str, ...]) -> Score:
        texts = [text for text in references if text.strip()]
        if not texts:
            return Score.abstain("no reference to compare with")
        return Score(min(1.0, bleu(caption, texts, self.order)))
