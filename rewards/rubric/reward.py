"""Rubric: how much of what a good caption of this particular image must do does the caption do?

measures  r = Σ weight · met / Σ weight over the image's own criteria, each met or not, as one judge answers in one call
range     [0, 1]; the empty caption gets 0 without a request
needs     meta["rubric"]: [{criterion, weight from 1 to 3}, …]
cost      one LLM call per new caption; replies are cached on disk by content
source    RubiCap (arXiv 2603.09160): binary criteria for each image with weights 3, 2, 1, a text judge of 7B, the
          normalized weighted sum. There a large model writes the criteria from several teachers' captions; here they
          come with the data
hack      what no criterion asks about: a rubric of things to say puts no cost on false or empty words beside them
guards    claims, hallucination, length; criteria that forbid something ("doesn't mention a second dog")
fails     none; with the lab's rule-based checker, whose rubric has a criterion against false words, word_shuffle wins on 1 %.
          It ties on repeated, rambling, injection, praise and hedged. A large model's judgement is not measured
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rlcap.config.imports import resolve
from rlcap.judge.config import JudgeSpec
from rlcap.judge.grader import GradedCaption
from rlcap.reward.judge_reward import JudgeReward
from rlcap.rewards.rubric.parsing import CriterionResult, RubricReader, format_criteria, parse_rubric, weighted_share
from rlcap.scorers.text.alignment import locate, quotations
from rlcap.types import Sample, Score, Span


class Rubric(JudgeReward):
    """A rubric for each image as a reward.

    Args:
        judge: says which criteria are met; see `rlcap.judge.config:JudgeConfig`. It is not shown the image by default,
            as in RubiCap; `judge.image` shows it.
        rubric: `module:function`, which maps a sample to its criteria, in place of `meta["rubric"]`.

    Raises:
        RubricError: for a rubric that can't be used; it names the sample.
    """

    name, range, needs, version = "rubric", (0.0, 1.0), frozenset({"meta"}), "1"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", RubricReader
    shows_image = False

    def __init__(self, judge: JudgeSpec, rubric: str | None = None) -> None:
        super().__init__(judge)
        self.make_rubric = resolve(rubric) if rubric else None

    def with_rubric(self, sample: Sample) -> Sample:
        """Return the sample with its rubric in `meta["rubric"]`."""
        if self.make_rubric is None:
            return sample
        return replace(sample, meta={**sample.meta, "rubric": self.make_rubric(sample)})

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Ask about the caption where the image has a rubric."""
        sample = self.with_rubric(sample)
        return [(caption, sample)] if parse_rubric(sample) else []

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Return the weighted share of criteria that are met."""
        if not graded:
            return Score.abstain('no criteria for this image in meta["rubric"]')
        return super().aggregate(graded, sample)

    def score_verdict(self, verdict: list[CriterionResult], sample: Sample) -> Score:
        """Return the weighted share, with the judge's reasons as a note."""
        return Score(weighted_share(parse_rubric(self.with_rubric(sample)), verdict), note=format_criteria(verdict))

    def find_spans(self, verdict: list[CriterionResult], caption: str, sample: Sample) -> tuple[Span, ...]:
        """Return a span for each part of the caption that a reason quotes: the criterion's weight, negative if it is not met.

        A criterion that asks for something which is not there quotes nothing, and has no span.
        """
        rubric = parse_rubric(self.with_rubric(sample))
        return tuple(
            Span(*locate(quotation, caption), one.met * 2 * criterion.weight - criterion.weight, criterion.text)
            for criterion, one in zip(rubric, verdict, strict=True)
            for quotation in quotations(one.reason)
        )
