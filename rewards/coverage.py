"""Coverage: how much of what people say about the image does the caption say?

measures  r = mean of 1 − doubt over the words of all references; doubt = clip((1 − cosine) / (1 − chance), 0, 1) for
          the most similar word of the caption (`rlcap.scorers.grounding`). What several references say counts more
range     [0, 1]
needs     references
cost      one encoder pass per text
source    BERTScore's recall (Zhang et al., ICLR 2020), over all references at once instead of the best one, and over
          words that claim something. It complements `hallucination` in its `grounded` form, as recall complements
          precision
hack      the references' words in any order; any further sentence may cover something
guards    hallucination against false statements, grammar for the word order, length against rambling
fails     cut_off, repeated, word_shuffle, other_image, one_false, one_missing, rambling, injection, praise, hedged; measured
          with the lab's NLI encoder on paragraphs that are compared with short references. With an encoder trained on
          COCO captions: word_shuffle, one_false, praise, injection, one_missing
"""

from __future__ import annotations

from typing import Any

from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


class Coverage(Reward):
    """Coverage of the references as a reward. The empty caption gets 0. Counts are compared as words.

    Args:
        encoder: folder or hub name of a text encoder, an `NliScorer`, a `TokenMatchingScorer`, or a `Grounding`. An NLI
            model is also a text encoder; its vectors are taken two thirds of the way up.
        chance: cosine of unrelated words under this encoder, in [-1, 1).
        device: where the encoder runs.
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
            raise ValueError(f"chance={chance} has no effect: the Grounding has its own chance ({encoder.chance})")
        self.grounding = encoder if isinstance(encoder, Grounding) else Grounding(encoder, chance=chance)

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row whose references say nothing abstains."""
        covered = self.grounding.coverage(batch.captions, [sample.references for sample in batch.samples])
        return RewardOutput([Score.abstain("no reference says anything") if c is None else Score(c) for c in covered])
