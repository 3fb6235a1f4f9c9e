"""Critique: an LLM's textual gradient, and a number from it.

measures  r = clip(score / 10 − penalty · #wrong, −1, 1): the judge's grade, less something for each wrong claim it lists
range     [-1, 1]
needs     references, or image and a judge that sees
cost      one LLM call a new caption; replies are cached on disk by content
source    TextGrad (arXiv 2406.07496): the critique is the "gradient" of a caption, here kept as `Score.note` for refinement;
          the verdict's form after CLAIR and DCScore (reason before number, wrong and missing apart)
hack      flattery and instructions to the judge (fenced as data, prompt.py); length, on which LLM judges are lenient; a
          caption that makes the judge break the format abstains, which gains nothing either
guards    length, hallucination; evaluation never asks this judge
fails     salad; by the lab's critic (8 %), which reads words charitably and takes hedges and praise for nothing
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlcap.reward.base import Reward
from rlcap.reward.judged import Judged
from rlcap.reward.verdict import Verdict
from rlcap.types import Sample, Score


def verdict_value(verdict: Verdict, penalty: float) -> float:
    """Grade 7 with two wrong claims at a penalty of .1 → .5."""
    return max(-1.0, min(1.0, verdict.score / 10 - penalty * len(verdict.wrong)))


class Critique(Judged, Reward):
    """penalty: off the value for each wrong claim; .1 makes one cost as much as a point of the grade. image: whether an
    engine that sees gets the image. engine and the rest: see `rlcap.reward.judged:Judged`."""

    name, version = "critique", "1"
    prompt_file = Path(__file__).parent / "prompts" / "critique.txt"
    cache_file = "critiques.sqlite"

    def __init__(self, engine: Any, penalty: float = 0.1, image: bool = True, **asking: Any) -> None:
        super().__init__(engine, image=image, **asking)
        self.penalty = penalty

    def value(self, verdict: Verdict, sample: Sample) -> Score:
        return Score(verdict_value(verdict, self.penalty), note=verdict.text())
