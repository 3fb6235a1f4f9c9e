"""Length: a two-sided gate, so that neither silence nor rambling wins.

measures  ρ = words(caption) / words(reference)
range     [-1, 0], or [0, 1] as a gate; penalty: 0 inside the gate, falling in a line to -1 at ρ = 0 and ρ = 2 · high; gate:
          1 inside, 0 outside
needs     references, a paragraph or a fixed `target`
cost      none: counts words
source    BalCapRL (arXiv 2605.07394): a caption's linguistic reward counts only if ρ ∈ [0.5, 2]
hack      any words fill it: word salad of the right length scores 0
guards    repetition, hallucination and critique look at what the words say
fails     none; counts words alone, so other_image, one_false, praise and their like tie
"""

from __future__ import annotations

from typing import Literal

from rlcap.reward.base import Reward
from rlcap.scorers.ngrams import tokenize
from rlcap.types import RewardBatch, Sample, Score


def gate(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> bool:
    """Whether ρ lies in [low, high], both ends included. For 100 words: 50 … 200."""
    return low * reference <= words <= high * reference


def penalty(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> float:
    """0 inside the gate; outside it the distance to it, as a share of what there is below (low) or of high above."""
    ratio = words / reference
    if gate(words, reference, low, high):
        return 0.0
    return -min(1.0, (low - ratio) / low if ratio < low else (ratio - high) / high)


class Length(Reward):
    """low, high: the gate. form: `penalty` or `gate`. truncated: what a caption cut off at the token limit gets.

    The reference length is `target` words if given; else the paragraph's; else, where there is only a handful of short
    captions, their mean (`references="mean"`: the captioner learns one caption) or sum (`"sum"`: it learns to fuse them).
    A truncated caption gets the lowest value whatever its length: stopping is part of the task.
    """

    name, range, version = "length", (-1.0, 1.0), "1"

    def __init__(
        self,
        low: float = 0.5,
        high: float = 2.0,
        form: Literal["penalty", "gate"] = "penalty",
        target: float | None = None,
        references: Literal["mean", "sum"] = "mean",
    ) -> None:
        if not 0 < low <= high:
            raise ValueError(f"the gate needs 0 < low <= high, got [{low}, {high}]")
        if form not in ("penalty", "gate"):
            raise ValueError(f"form must be penalty or gate, got {form!r}")
        if references not in ("mean", "sum"):
            raise ValueError(f"references must be mean or sum, got {references!r}")
        if target is not None and target <= 0:
            raise ValueError(f"target is a number of words above 0, got {target}")
        self.low, self.high, self.form, self.target, self.references = low, high, form, target, references
        self.range = (-1.0, 0.0) if form == "penalty" else (0.0, 1.0)

    def reference_words(self, sample: Sample) -> float:
        """Words that a caption of this image should have; 0 where nothing says."""
        if self.target is not None:
            return self.target
        if words := len(tokenize(sample.paragraph or "")):
            return float(words)
        counts = [count for count in (len(tokenize(text)) for text in sample.references) if count]
        total = float(sum(counts))
        return total / len(counts) if counts and self.references == "mean" else total

    def score(self, batch: RewardBatch) -> list[Score]:
        return [self._one(*row) for row in zip(batch.captions, batch.samples, batch.truncated, strict=True)]

    def _one(self, caption: str, sample: Sample, truncated: bool) -> Score:
        if truncated:
            return Score(self.range[0], note="cut off at the token limit")
        reference = self.reference_words(sample)
        if not reference:
            return Score.abstain("no paragraph, no reference and no target to compare the length with")
        words = len(tokenize(caption))
        if self.form == "gate":
            return Score(float(gate(words, reference, self.low, self.high)))
        return Score(penalty(words, reference, self.low, self.high))
