"""CIDEr: does the caption say what people said, in their words, with rare words counting more?

measures  r = 10 · mean over n ≤ 4 and references of the clipped tf-idf cosine · exp(−Δlength² / 72)
range     [0, 10]; human captions score about 1 against each other
needs     references
cost      none; it only counts n-grams
source    CIDEr-D (Vedantam et al., CVPR 2015), as pycocoevalcap computes it, with three differences. Document
          frequencies are stored (for a single image the published code gives exactly 0), PTB's tokens are used
          with the tokenizer ptb alone, and captions end with the end mark of SCST (CVPR 2017, app. E)
hack      what most references say and nothing else. A detail that no annotator mentioned is worth nothing, so captions
          become alike. Paragraphs lose against short references by their length alone
guards    the end mark against fragments ("a man on a"), self-retrieval against captions that are all alike,
          hallucination. The references must be as long as the captions that you want
fails     one_word, cut_off, word_shuffle, echo, other_image, generic, one_missing; measured on paragraphs that are compared
          with short references (lab). For captions as long as the references: cut_off 8 %, word_shuffle 8 % and one_missing 36
          % (COCO)
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.cider import SCALE, CiderD
from rlcap.scorers.text.tokenizers import TokenizerName
from rlcap.types import RewardBatch, Score


class Cider(Reward):
    """CIDEr-D as a reward. The empty caption gets 0, the lowest value.

    Args:
        frequencies: the file that `rlcap cider` writes, a `CiderD`, or the references of the training images (a list of
            texts for each image).
        tokenizer: what splits texts into words: `words`, or `ptb` as in published values. None takes the one that the
            frequencies were counted with, or `words` for a list of references.
    """

    name, range, needs, version = "cider", (0.0, SCALE), frozenset({"references"}), "2"

    def __init__(
        self, frequencies: str | CiderD | Sequence[Sequence[str]], tokenizer: TokenizerName | None = None
    ) -> None:
        if isinstance(frequencies, str):
            frequencies = CiderD.load(frequencies)
        self.cider = (
            frequencies
            if isinstance(frequencies, CiderD)
            else CiderD.fit(frequencies, eos=True, tokenizer=tokenizer or "words")
        )
        if tokenizer not in (None, self.cider.tokenizer):
            raise ValueError(
                f"tokenizer is {tokenizer}, but the frequencies were counted with {self.cider.tokenizer}; "
                f"count them again with `rlcap cider --tokenizer {tokenizer}`, or leave the parameter out"
            )

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without references abstains."""
        return RewardOutput(
            [self._one(caption, s.references) for caption, s in zip(batch.captions, batch.samples, strict=True)]
        )

    def _one(self, caption: str, references: Sequence[str]) -> Score:
        texts = list(references)
        if not texts:
            return Score.abstain("no reference to compare with")
        return Score(min(self.cider.score(caption, texts), SCALE) if caption else 0.0)
