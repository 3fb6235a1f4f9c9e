"""Critique: an LLM's textual gradient, and a number from it.

measures  score: r = clip(score / 10 − penalty · #wrong, −1, 1): the judge's grade, less something for each wrong claim it
          lists; best_of_two: 1, .5 or 0 as the caption wins, ties or loses against the paragraph, else the first reference,
          in both orders (orders that disagree tie); revision_gap: 1 − edit distance / words of the longer, between the
          caption and the judge's correction of it
range     [-1, 1]; best_of_two and revision_gap [0, 1]. The empty caption gets the lowest without asking anyone
needs     references, or image and a judge that sees; best_of_two a paragraph or references
cost      one LLM call a new caption, two for best_of_two; replies are cached on disk by content
source    TextGrad (arXiv 2406.07496): the critique is the "gradient" of a caption, here kept as `Score.note` for refinement;
          the verdict's form after CLAIR and DCScore (reason before number, wrong and missing apart). Crops and a detector's
          classes in the prompt after "Improving Image Captioning Using LLM Gradient"
hack      flattery and instructions to the judge (fenced as data, prompt.py); length, on which LLM judges are lenient; a
          caption that makes the judge break the format abstains, which gains nothing either. revision_gap: a lazy judge,
          who gives back whatever is long; best_of_two: three values, so that most pairs of good captions tie
guards    length, hallucination; evaluation never asks this judge
fails     salad; on 10 % of 42 images by the lab's critic that misreads 3 % of what it sees, on 5 % of 100 by one that sees
          everything; both read words charitably and take hedges and praise for nothing. best_of_two, by the latter's grade:
          none (salad 1 %), but one_false ties on 94 % and one_missing on 92 %;
          revision_gap, by the lab's corrector: one_false (7 %). A large model's reading is not measured here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlcap.judge.grader import Critic, Opinion
from rlcap.judge.parsing import Verdict
from rlcap.reward.base import Reward
from rlcap.reward.judge_reward import Judged
from rlcap.rewards.critique.edit_similarity import Rewriter, kept
from rlcap.rewards.critique.pairwise import Comparer, both_orders
from rlcap.rewards.critique.pairwise import value as won
from rlcap.types import Sample, Score


def verdict_value(verdict: Verdict, penalty: float) -> float:
    """Grade 7 with two wrong claims at a penalty of .1 → .5."""
    return max(-1.0, min(1.0, verdict.score / 10 - penalty * len(verdict.wrong)))


FORMS: Mapping[str, type[Critic]] = {"score": Critic, "best_of_two": Comparer, "revision_gap": Rewriter}
PROMPTS = {"score": "prompt.txt", "best_of_two": "pairwise.txt", "revision_gap": "edit_similarity.txt"}


class Critique(Judged, Reward):
    """penalty: off the value for each wrong claim; .1 makes one cost as much as a point of the grade. image: whether an
    engine that sees gets the image. views: parts of the image that it gets beside, `{windows: 2, zooms: [2], most: 6}` (see
    `rlcap.judge.image_crops:Views`). detected: whether it is told `meta["detected"]`, a detector's class names. form: score,
    best_of_two or revision_gap. engine and the rest: see `rlcap.reward.judge_reward:Judged`."""

    name, range, version = "critique", (-1.0, 1.0), "1"
    prompt_file = Path(__file__).parent / PROMPTS["score"]
    cache_file = "critiques.sqlite"

    def __init__(
        self,
        engine: Any,
        penalty: float = 0.1,
        image: bool = True,
        views: Mapping[str, Any] | None = None,
        detected: bool = False,
        form: Literal["score", "best_of_two", "revision_gap"] = "score",
        **asking: Any,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form is {', '.join(FORMS)}, got {form!r}")
        self.form, self.penalty, self.critic_kind = form, penalty, FORMS[form]
        self.prompt_file = Path(__file__).parent / PROMPTS[form]
        self.range = (-1.0, 1.0) if form == "score" else (0.0, 1.0)
        super().__init__(engine, image=image, views=views, detected=detected, **asking)

    def asks(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        return both_orders(caption, sample) if self.form == "best_of_two" else super().asks(caption, sample)

    def judged(self, opinions: Sequence[Opinion], sample: Sample) -> Score:
        if not opinions:
            return Score.abstain("no paragraph or reference to compare with")
        lost = next((opinion for opinion in opinions if opinion.verdict is None), None)
        if lost is not None or self.form == "score":
            return super().judged([lost or opinions[0]], sample)
        verdicts = [opinion.verdict for opinion in opinions]
        if self.form == "revision_gap":
            return Score(kept(opinions[0].caption, verdicts[0]), note=verdicts[0])
        return Score(won(verdicts), note="\n".join(one.reason for one in verdicts))

    def value(self, verdict: Verdict, sample: Sample) -> Score:
        return Score(verdict_value(verdict, self.penalty), note=verdict.text())
