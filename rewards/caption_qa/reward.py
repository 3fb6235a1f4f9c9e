"""Caption QA: can one who has only read the caption answer questions about the image?

measures  r = mean over questions and draws of 1[answer = gold], options in another order each draw; `unknown` instead of 1
          for "the caption does not tell"
range     [0, 1]; an answerer that can't read gets 1 / options by chance. The empty caption gets 0 without asking anyone
needs     meta["questions"]: [{question, options, answer}, …]
cost      questions x draws short LLM calls a new caption, at most 5 x 2 by default; replies are cached on disk by content
source    CapRL (arXiv 2509.22647), which offers no "does not tell" (`unknown: null`), and whose answerer is a 3B text
          model. Here the right option takes every place in turn, so that a liking for a letter cancels out
hack      whatever no question asks about; guesses, which `unknown` at the level of chance makes worthless on average;
          telling everything at any length; questions that can be answered without the image (`questions.curate`)
guards    length, hallucination, style; questions that no caption can foresee
fails     none; by the lab's own reader salad wins on 4 % and ties on 26 %. It ties on all where nothing is asked: repeated,
          rambling, injection, praise and hedged; one_false on 58 %, one_missing on 17 %. A large model is not measured.
          With `unknown: null` the reader guesses, and eight probes win by luck, on 7 to 21 %
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.config.imports import resolve
from rlcap.judge.grader import Opinion
from rlcap.reward.base import Reward
from rlcap.reward.judge_reward import Judged
from rlcap.rewards.caption_qa.questions import UNTOLD, Choice, QuestionReader, asked, questions_of
from rlcap.types import Sample, Score


def credit(said: str, answer: str, unknown: float | None = 0.25) -> float:
    """1 for the right option, `unknown` for "the caption does not tell", 0 for any other."""
    return 1.0 if said == answer else unknown if said == UNTOLD and unknown is not None else 0.0


class CaptionQa(Judged, Reward):
    """draws: times that each question is asked. most: of an image's questions so many are asked, its first ones.

    unknown: credit in [0, 1] of "the caption does not tell"; .25 is what a guess among four options gains on average, so
    that a caption gains nothing by it either. null: it isn't offered, and the answerer guesses. enough: share in (0, 1] of
    the answers that must be readable, or the caption abstains. questions: `module:function`, sample → questions, in place
    of `meta["questions"]`. engine and the rest: see `rlcap.reward.judge_reward:Judged`; no engine is given the image.
    """

    name, range, needs, version = "caption_qa", (0.0, 1.0), frozenset({"meta"}), "1"
    prompt_file, critic_kind = Path(__file__).parent / "prompt.txt", QuestionReader

    def __init__(
        self,
        engine: Any,
        draws: int = 2,
        most: int = 5,
        unknown: float | None = 0.25,
        enough: float = 0.5,
        questions: str | None = None,
        **asking: Any,
    ) -> None:
        if draws < 1 or most < 1 or not 0 <= (unknown or 0) <= 1 or not 0 < enough <= 1:
            raise ValueError(
                f"draws and most are at least 1, unknown in [0, 1] or null, enough in (0, 1]; got {draws}, {most}, "
                f"{unknown} and {enough}"
            )
        super().__init__(engine, **asking)
        self.draws, self.most, self.unknown, self.enough = draws, most, unknown, enough
        self.maker = resolve(questions) if questions else None

    def questions(self, sample: Sample) -> list[Choice]:
        """QuestionError where one is malformed."""
        return questions_of(self.maker(sample) if self.maker else sample.meta.get("questions"), sample.id)[: self.most]

    def asks(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        draws = [(choice, draw) for choice in self.questions(sample) for draw in range(self.draws)]
        return [asked(choice, caption, sample, draw, self.unknown is not None) for choice, draw in draws]

    def judged(self, opinions: Sequence[Opinion], sample: Sample) -> Score:
        if not opinions:
            return Score.abstain('no questions about this image in meta["questions"]')
        choices = [choice for choice in self.questions(sample) for _ in range(self.draws)]
        told = [
            (c, opinion.verdict) for c, opinion in zip(choices, opinions, strict=True) if opinion.verdict is not None
        ]
        if len(told) < self.enough * len(opinions):
            lost = next(opinion for opinion in opinions if opinion.verdict is None)
            reason = f"{len(told)} of {len(opinions)} answers could be read; one that could not: {lost.reason}"
            return Score.abstain(reason, note=lost.reply)
        value = sum(credit(said, choice.answer, self.unknown) for choice, said in told) / len(told)
        return Score(value, note="\n".join(f"{c.question} {said} ({c.answer})" for c, said in told))
