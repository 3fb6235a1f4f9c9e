"""Coverage: how much of what people say of the image does the caption say?

measures  r = mean over the words of all references of 1 − doubt, clip((1 − cosine) / (1 − chance), 0, 1) with the caption's word
          most like it (`rlcap.scorers.grounding`); what several references say weighs more
range     [0, 1]
needs     references
cost      one encoder pass a text
source    BERTScore's recall (Zhang et al., ICLR 2020), over all references at once instead of the best one, and over words that
          claim something; the other half of `hallucination` in its `grounded` form, as recall is of precision
hack      the references' words in any order; any further sentence may cover something
guards    hallucination for what is wrong, grammar for order, length against rambling
fails     cut_off, repeated, salad, other_image, one_false, one_missing, rambling, injection, praise, hedged; by the lab's NLI encoder,
          for paragraphs held to short references; with one taught on COCO captions salad, one_false, praise, injection, one_missing
"""

from __future__ import annotations

from typing import Any

from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


class Coverage(Reward):
    """encoder: folder or hub name of a text encoder (an NLI model is one, and is read two thirds of the way up), an
    `NliScorer`, a `TokenMatchingScorer`, or a `Grounding`. chance: cosine in [-1, 1) of unrelated words under it. The empty caption
    gets 0. Counts are compared as words.
    """

    name, range, needs, version = "coverage", (0.0, 1.0), frozenset({"references"}), "1"

    def __init__(self, encoder: Any, chance: float = 0.0, device: str = "cpu") -> None:
        from rlcap.scorers.grounding import Grounding
        from rlcap.scorers.nli import NliScorer

        if not -1 <= chance < 1:
            raise ValueError(f"chance is the cosine of unrelated words, in [-1, 1), got {chance}")
        if isinstance(encoder, str):
            encoder = Grounding.load(encoder, device, chance=chance)
        elif isinstance(encoder, NliScorer):
            encoder = Grounding.from_nli(encoder, chance=chance)
        elif isinstance(encoder, Grounding) and chance:
            raise ValueError(f"chance={chance} beside a Grounding, which has its own ({encoder.chance})")
        self.grounding = encoder if isinstance(encoder, Grounding) else Grounding(encoder, chance=chance)

    def score(self, batch: RewardBatch) -> RewardOutput:
        covered = self.grounding.coverage(batch.captions, [sample.references for sample in batch.samples])
        return RewardOutput([Score.abstain("no reference says anything") if c is None else Score(c) for c in covered])
