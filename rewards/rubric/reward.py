"""Rubric: how much of what a good caption of this very image must do does the caption do?

measures  r = Σ weight · met / Σ weight over the image's own criteria, each met or not, by one judge in one call
range     [0, 1]; the empty caption gets 0 without asking anyone
needs     meta["rubric"]: [{criterion, weight from 1 to 3}, …]
cost      one LLM call a new caption; replies are cached on disk by content
source    RubiCap (arXiv 2603.09160): binary criteria of an image with weights 3, 2, 1, a text judge of 7B, the normalised
          weighted sum. There a large model writes the criteria from several teachers' captions; here they come with the data
hack      what no criterion asks about: a rubric of things to say has no cost for false or idle words beside them
guards    claims, hallucination, length; criteria that forbid ("doesn't mention a second dog")
fails     none; by the lab's own checker, whose rubric has a criterion against false words, salad wins on 1 %. It ties on
          repeated, rambling, injection, praise and hedged. A large model's reading is not measured here
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcap.config.imports import resolve
from rlcap.judge.grader import Opinion
from rlcap.reward.base import Reward
from rlcap.reward.judge_reward import Judged
from rlcap.rewards.rubric.parsing import Met, RubricReader, criteria_text, rubric_of, weighted_share
from rlcap.types import Sample, Score


class Rubric(Judged, Reward):
    """image: whether an engine that sees gets the image too; RubiCap's doesn't. rubric: `module:function`, sample →
    criteria, in place of `meta["rubric"]`. engine and the rest: see `rlcap.reward.judge_reward:Judged`. Raises RubricError,
    naming the sample, for a rubric that is none."""

    name, range, needs, version = "rubric", (0.0, 1.0), frozenset({"meta"}), "1"
    prompt_file, critic_kind = Path(__file__).parent / "prompt.txt", RubricReader

    def __init__(self, engine: Any, image: bool = False, rubric: str | None = None, **asking: Any) -> None:
        super().__init__(engine, image=image, **asking)
        self.maker = resolve(rubric) if rubric else None

    def own(self, sample: Sample) -> Sample:
        """The sample with its rubric."""
        return replace(sample, meta={**sample.meta, "rubric": self.maker(sample)}) if self.maker else sample

    def asks(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        return [(caption, self.own(sample))] if rubric_of(self.own(sample)) else []

    def judged(self, opinions: Sequence[Opinion], sample: Sample) -> Score:
        if not opinions:
            return Score.abstain('no criteria for this image in meta["rubric"]')
        return super().judged(opinions, sample)

    def value(self, verdict: list[Met], sample: Sample) -> Score:
        return Score(weighted_share(rubric_of(self.own(sample)), verdict), note=criteria_text(verdict))
