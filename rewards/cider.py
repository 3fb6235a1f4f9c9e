"""CIDEr: does the caption say what people said, in their words, weighted by how rare the words are?

measures  r = 10 · mean over n ≤ 4 and references of clipped tf-idf cosine · exp(−Δlength² / 72)
range     [0, 10]; human captions score about 1 against each other
needs     references
cost      none: counts n-grams
source    CIDEr-D (Vedantam et al., CVPR 2015), as pycocoevalcap computes it, but with stored document frequencies (over one
          image theirs give exactly 0), without PTB's Java tokenizer, and with the end mark of SCST (CVPR 2017, app. E)
hack      what most references say and nothing else: detail that no annotator wrote is worth nothing, so captions become
          alike; paragraphs against short references lose by their length alone
guards    the end mark against fragments ("a man on a"); self-retrieval against sameness; hallucination. References must be
          as long as the captions that are wanted
fails     one_word, cut_off, salad, echo, other_image, generic, one_missing; for paragraphs held to short references (lab);
          for captions of their length cut_off 8 %, salad 8 % and one_missing 36 % (COCO)
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.cider import SCALE, CiderD
from rlcap.types import RewardBatch, Score


class Cider(Reward):
    """frequencies: the file of `rlcap cider`, a `CiderD`, or the training images' references (a list of texts an image).

    The empty caption gets 0, the lowest value.
    """

    name, range, needs, version = "cider", (0.0, SCALE), frozenset({"references"}), "1"

    def __init__(self, frequencies: str | CiderD | Sequence[Sequence[str]]) -> None:
        if isinstance(frequencies, str):
            frequencies = CiderD.load(frequencies)
        self.cider = frequencies if isinstance(frequencies, CiderD) else CiderD.fit(frequencies, eos=True)

    def score(self, batch: RewardBatch) -> RewardOutput:
        return RewardOutput(
            [self._one(caption, s.references) for caption, s in zip(batch.captions, batch.samples, strict=True)]
        )

    def _one(self, caption: str, references: Sequence[str]) -> Score:
        texts = [text for text in references if text.strip()]
        if not texts:
            return Score.abstain("no reference to compare with")
        return Score(min(self.cider.score(caption, texts), SCALE) if caption.strip() else 0.0)
