"""Critique: a language model's textual gradient, and a number from it.

measures  score: r = clip(score / 10 − penalty · #wrong, −1, 1), the judge's grade less `penalty` for each wrong claim
          it lists. best_of_two: 1, .5 or 0 if the caption wins, ties or loses against the paragraph, or else the first
          reference, in both orders (orders that disagree tie). revision_gap: 1 − edit distance / words of the longer
          text, between the caption and the judge's correction of it
range     [-1, 1]; best_of_two and revision_gap [0, 1]. The empty caption gets the lowest value without a request
needs     references, or an image and a judge that sees it; best_of_two a paragraph or references
cost      one LLM call per new caption, two for best_of_two; replies are cached on disk by content
source    TextGrad (arXiv 2406.07496): the critique is the "gradient" of a caption, kept here as `Score.note` for
          refinement. The verdict's form follows CLAIR and DCScore (reason before number, wrong and missing apart).
          Crops and a detector's classes in the prompt follow "Improving Image Captioning Using LLM Gradient"
hack      flattery and instructions to the judge (captions are delimited as data, rlcap/judge/templates.py); length, on
          which LLM judges are lenient. A caption that makes the judge break the format abstains, which gains nothing
          either. revision_gap: a lazy judge, which returns whatever is long; best_of_two: it has three values, so that
          most pairs of good captions tie
guards    length, hallucination; evaluation never asks this judge
fails     word_shuffle; on 10 % of 42 images with the lab's oracle judge that misreads 3 % of what it sees, on 5 % of 100 with
          one that sees everything. Both read words charitably and ignore hedges and praise. best_of_two, by the
          latter's grade: none (word_shuffle 1 %), but one_false ties on 94 % and one_missing on 92 %. revision_gap, with the
          lab's corrector: one_false (7 %). A large model's judgement is not measured
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from rlcap.judge.config import JudgeSpec
from rlcap.judge.grader import GradedCaption, Grader
from rlcap.judge.parsing import Verdict
from rlcap.reward.judge_reward import JudgeReward
from rlcap.rewards.critique.edit_similarity import CorrectionReader, edit_similarity
from rlcap.rewards.critique.pairwise import PreferenceReader, both_orders, pairwise_value
from rlcap.scorers.text.alignment import locate
from rlcap.types import Sample, Score, Span

GRADERS: Mapping[str, type[Grader]] = {
    "score": Grader,
    "best_of_two": PreferenceReader,
    "revision_gap": CorrectionReader,
}
"""Form → the grader that fills its prompt and reads its replies."""
PROMPTS = {"score": "prompt.txt", "best_of_two": "pairwise.txt", "revision_gap": "edit_similarity.txt"}
"""Form → its prompt file."""


def verdict_value(verdict: Verdict, penalty: float) -> float:
    """Return grade / 10 less `penalty` for each wrong claim, in [−1, 1].

    Grade 7 with two wrong claims at .1 gives .5.
    """
    return max(-1.0, min(1.0, verdict.score / 10 - penalty * len(verdict.wrong)))


class Critique(JudgeReward):
    """A critique and its grade as a reward.

    Args:
        judge: criticises the caption; see `rlcap.judge.config:JudgeConfig`.
        penalty: what is subtracted for each wrong claim; .1 makes a wrong claim cost as much as a point of the grade.
        form: score, best_of_two or revision_gap.
    """

    name, range, version = "critique", (-1.0, 1.0), "1"
    prompt_file = Path(__file__).parent / PROMPTS["score"]
    cache_file = "critiques.sqlite"
    shows_image, uses_detections = True, True

    def __init__(
        self,
        judge: JudgeSpec,
        penalty: float = 0.1,
        form: Literal["score", "best_of_two", "revision_gap"] = "score",
    ) -> None:
        if form not in GRADERS:
            raise ValueError(f"form must be {', '.join(GRADERS)}, got {form!r}")
        self.form, self.penalty, self.grader_kind = form, penalty, GRADERS[form]
        self.prompt_file = Path(__file__).parent / PROMPTS[form]
        self.range = (-1.0, 1.0) if form == "score" else (0.0, 1.0)
        super().__init__(judge)

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Ask about the caption; for best_of_two in both orders."""
        return both_orders(caption, sample) if self.form == "best_of_two" else super().build_requests(caption, sample)

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Return the value of the form."""
        if not graded:
            return Score.abstain("no paragraph or reference to compare with")
        unread = next((one for one in graded if one.verdict is None), None)
        if unread is not None or self.form == "score":
            return super().aggregate([unread or graded[0]], sample)
        verdicts = [one.verdict for one in graded]
        if self.form == "revision_gap":
            return Score(edit_similarity(graded[0].caption, verdicts[0]), note=verdicts[0])
        return Score(pairwise_value(verdicts), note="\n".join(one.reason for one in verdicts))

    def score_verdict(self, verdict: Verdict, sample: Sample) -> Score:
        """Return the value of a verdict, with the verdict's text as a note."""
        return Score(verdict_value(verdict, self.penalty), note=verdict.text())

    def find_spans(self, verdict: Verdict, caption: str, sample: Sample) -> tuple[Span, ...]:
        """Return a span of value −1 for each wrong claim that the judge lists, on the words that it is about."""
        return tuple(Span(*locate(claim, caption), -1.0, f"wrong: {claim}") for claim in verdict.wrong)
