"""ROUGE: how long is the longest sequence of words, with gaps allowed, that the caption shares with a reference?

measures  r = F-measure (β = 1.2) of the longest common subsequence; precision and recall are each the best over the
          references
range     [0, 1]
needs     references
cost      none; it compares every word with every word of each reference
source    ROUGE-L (Lin 2004), as pycocoevalcap computes it; equal to within 1e-6 on COCO's captions with the same
          words. Published values use the tokenizer ptb, which counts "'s" and symbols as words
hack      common openings ("there is a … in the …"); a short caption made of them has high precision
guards    self-retrieval against captions that are all alike, length
fails     cut_off, word_shuffle, one_missing; measured on paragraphs that are compared with short references (lab)
"""

from __future__ import annotations

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.overlap import rouge_l
from rlcap.scorers.text.tokenizers import TokenizerName, get_tokenizer
from rlcap.types import RewardBatch, Score


class Rouge(Reward):
    """ROUGE-L as a reward. The empty caption gets 0.

    Args:
        tokenizer: what splits texts into words: `words`, or `ptb` as in published values.
    """

    name, range, needs, version = "rouge", (0.0, 1.0), frozenset({"references"}), "2"

    def __init__(self, tokenizer: TokenizerName = "words") -> None:
        get_tokenizer(tokenizer)  # refuses a name that does not exist
        self.tokenizer = tokenizer

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without references abstains."""
        return RewardOutput(
            [self._one(caption, s.references) for caption, s in zip(batch.captions, batch.samples, strict=True)]
        )

    def _one(self, caption: str, references: tuple[str, ...]) -> Score:
        texts = list(references)
        return (
            Score(rouge_l(caption, texts, tokenizer=self.tokenizer))
            if texts
            else Score.abstain("no reference to compare with")
        )
