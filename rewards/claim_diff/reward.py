"""Claim diff: where caption and reference say different things, whose claim is wrong?

measures  d = clip((wrong claims of the caption − wrong claims of the reference) / differences, −1, 1); r = .5 − .5 · d,
          less `hedge` · share of the caption's sentences that are hedged; .5 where the two say the same
range     [0, 1]; the empty caption gets 0 without a request
needs     a paragraph or references; a judge that sees the image can also find the reference wrong
cost      one LLM call per new caption; replies are cached on disk by content
source    ClaimDiff-RL, its default `normalized_diff`, in which omissions and repetitions are errors. There the judge
          sees the image, and the reference is a large model's caption. Its ambiguity penalty counts hedging words; this
          reward counts hedged sentences. Its code refuses a reply without a difference; here two texts that agree are a
          tie. No weights by severity
hack      padding with differences that are nobody's error, which dilute the errors; agreeing with the reference, right
          or wrong, where the judge does not see the image, because then no caption gets more than .5
guards    length, repetition, claims; `hedge`, because a judge seldom calls a hedged claim wrong; hallucination
fails     none; with the lab's rule-based comparer, against fused paragraphs, word_shuffle wins on 5 %. Probes tie wherever
          they say nothing about the image: repeated, rambling, injection, praise, and hedged without `hedge` (at .2
          hedges always lose); one_false ties on 11 %, one_missing on 12 %. A large model's judgement is not measured
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlcap.judge.config import JudgeSpec
from rlcap.judge.grader import GradedCaption
from rlcap.reward.judge_reward import JudgeReward
from rlcap.rewards.claim_diff.parsing import (
    Difference,
    DifferenceReader,
    differential,
    format_differences,
    reference_text,
)
from rlcap.scorers.text.hedges import is_hedged
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample, Score


def hedged_share(caption: str) -> float:
    """Return hedged sentences / sentences, in [0, 1]; 0 without sentences."""
    sentences = split_sentences(caption)
    return sum(map(is_hedged, sentences)) / len(sentences) if sentences else 0.0


def claim_value(differences: Sequence[Difference], hedged: float = 0.0, hedge: float = 0.0) -> float:
    """Return .5 − .5 · d − hedge · hedged, at least 0.

    Three differences, of which the caption is wrong in two and the reference in one, give d = 1/3 and a value of 1/3.
    """
    return max(0.0, 0.5 - 0.5 * differential(differences) - hedge * hedged)


class ClaimDiff(JudgeReward):
    """ClaimDiff as a reward.

    Args:
        judge: lists the differences between caption and reference; see `rlcap.judge.config:JudgeConfig`.
        hedge: what is subtracted from the value where every sentence is hedged, in [0, 1]; 0 leaves hedges to the
            judge.

    Raises:
        CropError: for a row whose boxes or detected classes can't be used.
    """

    name, range, version = "claim_diff", (0.0, 1.0), "1"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", DifferenceReader
    shows_image, uses_detections = True, True

    def __init__(self, judge: JudgeSpec, hedge: float = 0.0) -> None:
        if not 0 <= hedge <= 1:
            raise ValueError(f"hedge must be in [0, 1], got {hedge}")
        super().__init__(judge)
        self.hedge = hedge

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Ask about the caption where there is a reference to compare it with."""
        return super().build_requests(caption, sample) if reference_text(sample) else []

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Return the value of the differences that the judge found."""
        if not graded:
            return Score.abstain("no reference or paragraph to compare with")
        differences = graded[0].verdict
        if differences is None:
            return super().aggregate(graded, sample)
        value = claim_value(differences, hedged_share(graded[0].caption) if self.hedge else 0.0, self.hedge)
        return Score(value, note=format_differences(differences))
