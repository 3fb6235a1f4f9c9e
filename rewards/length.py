"""Length: a gate with two sides, so that neither silence nor rambling wins.

measures  ρ = words(caption) / words(reference)
range     [-1, 0], or [0, 1] as a gate or ramp; penalty: 0 inside the gate, falling linearly to -1 at ρ = 0 and ρ = 2 ·
          high; gate: 1 inside and 0 outside; ramp: 1 up to `free` words, then linearly down to 0 at `most` words
needs     references, a paragraph, a fixed `target`, a `band`, or with `target: control` the length or the format that the row
          requests; a ramp needs nothing
cost      none; it only counts words
source    BalCapRL (arXiv 2605.07394): a caption's linguistic reward counts only if ρ ∈ [0.5, 2]. Ramp: CapRL++ (arXiv
          2606.09393), 2048 to 3072 tokens there. Bands: formats of captions in Apple's VeCap studies, in tokens there
hack      any words fill it: a word shuffle of the right length scores 0
guards    repetition, hallucination and critique look at what the words say
fails     cut_off, word_shuffle, generic, one_missing, foreign, echo, other_image; on 7 to 17 % of the lab's images, where the
          good caption is the longer one. It only counts words, so one_false, praise and similar probes tie
"""

from __future__ import annotations

from typing import Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.parameters import check_choice, check_number, check_order
from rlcap.scorers.text.lengths import BANDS, gate, penalty, ramp
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import RewardBatch, Sample, Score

_NO_REFERENCE = "no paragraph, no reference and no target to compare the length with"


class Length(Reward):
    """The length of the caption in relation to a reference length as a reward.

    The reference length is `target` words if that is given, and the row's `control.length` with `target: control`, or the band of its
    `control.format` where it requests only a format; otherwise the paragraph's length; otherwise the mean of the
    short references' lengths (`references="mean"`: the captioner learns a single caption) or their sum (`"sum"`: it
    learns to fuse them). A truncated caption gets the lowest value whatever its length, because stopping is part of the
    task.

    Args:
        low: lower end of the gate, as a ratio ρ above 0.
        high: upper end of the gate, as a ratio ρ.
        form: `penalty`, `gate` or `ramp`.
        target: reference length in words, or `control` for the length or format that the row requests. The gate of .5 to 2 is wide for a
            request: `low: 0.9, high: 1.1` asks for ten percent.
        references: `mean` or `sum` of the references' lengths.
        band: SSC, DSC or DSC+, in place of gate and reference length.
        free: words up to which the ramp is 1.
        most: words from which on the ramp is 0.
    """

    name, range, version = "length", (-1.0, 1.0), "2"

    def __init__(
        self,
        low: float = 0.5,
        high: float = 2.0,
        form: Literal["penalty", "gate", "ramp"] = "penalty",
        target: float | Literal["control"] | None = None,
        references: Literal["mean", "sum"] = "mean",
        band: Literal["SSC", "DSC", "DSC+"] | None = None,
        free: float = 2048,
        most: float = 3072,
    ) -> None:
        check_number("low", low, above=0)
        check_order("low", low, "high", high)
        check_number("free", free, above=0)
        check_order("free", free, "most", most, strict=True)
        check_choice("form", form, ("penalty", "gate", "ramp"))
        check_choice("references", references, ("mean", "sum"))
        check_choice("band", band, (*BANDS, None))
        if band is not None and target == "control":
            raise ValueError(
                f"band {band} is the same for all rows: leave it out to read the row's own format by target: control"
            )
        self.is_requested = target == "control"
        if isinstance(target, int | float):
            check_number("target", target, above=0)
        self.low, self.high = BANDS[band] if band else (low, high)
        self.form, self.target, self.references, self.free, self.most = (
            form,
            1.0 if band else None if target == "control" else target,
            references,
            free,
            most,
        )
        self.range = (-1.0, 0.0) if form == "penalty" else (0.0, 1.0)

    def gate_for(self, sample: Sample) -> tuple[float, float, float]:
        """Return the reference length of a row in words and the ends of its gate as ratios; the length is 0 where nothing determines it."""
        control = sample.control
        if self.is_requested and control.length is None and control.format in BANDS:
            return 1.0, *BANDS[control.format]
        return self.reference_words(sample), self.low, self.high

    def reference_words(self, sample: Sample) -> float:
        """Return the number of words that a caption of this image should have, or 0 where nothing determines it."""
        if self.is_requested:
            return float(sample.control.length or 0)
        if self.target is not None:
            return self.target
        if words := len(tokenize(sample.paragraph or "")):
            return float(words)
        counts = [count for count in (len(tokenize(text)) for text in sample.references) if count]
        total = float(sum(counts))
        return total / len(counts) if counts and self.references == "mean" else total

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions. A row without a reference length abstains."""
        return RewardOutput(
            [self._one(*row) for row in zip(batch.captions, batch.samples, batch.truncated, strict=True)]
        )

    def _one(self, caption: str, sample: Sample, truncated: bool) -> Score:
        if truncated:
            return Score(self.range[0], note="cut off at the token limit")
        words = len(tokenize(caption))
        if self.form == "ramp":
            return Score(ramp(words, self.free, self.most))
        reference, low, high = self.gate_for(sample)
        if not reference:
            missing = "the row requests no length and no format with a band" if self.is_requested else _NO_REFERENCE
            return Score.abstain(missing)
        if self.form == "gate":
            return Score(float(gate(words, reference, low, high)))
        return Score(penalty(words, reference, low, high))
