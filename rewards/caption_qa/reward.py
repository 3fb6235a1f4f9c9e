"""Caption QA: can a judge that has read only the caption answer questions about the image?

measures  r = mean over questions and draws of 1[answer = gold], with the options in another order in each draw;
          `unknown` instead of 1 for "the caption does not tell"
range     [0, 1]; a judge that can't read gets 1 / options by chance. The empty caption gets 0 without a request
needs     meta["questions"]: [{question, options, answer}, …]
cost      questions x draws short LLM calls per new caption, at most 5 x 2 by default; replies are cached on disk by
          content
source    CapRL (arXiv 2509.22647), which offers no "does not tell" (`unknown: null`), and whose judge is a 3B text
          model. Here the right option takes every place in turn, so that a preference for one letter cancels out
hack      whatever no question asks about; guesses, which `unknown` at the level of chance makes worthless on average;
          captions of any length that tell everything; questions that can be answered without the image
          (`questions.curate`)
guards    length, hallucination, style; questions that no caption can foresee
fails     none; with the lab's rule-based reader word_shuffle wins on 4 % and ties on 26 %. Probes tie wherever no question is
          concerned: repeated, rambling, injection, praise and hedged; one_false on 58 %, one_missing on 17 %. A large
          model is not measured. With `unknown: null` the reader guesses, and eight probes win by luck, on 7 to 21 %
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlcap.config.imports import resolve
from rlcap.judge.config import JudgeSpec
from rlcap.judge.grader import GradedCaption
from rlcap.reward.judge_reward import JudgeReward
from rlcap.reward.parameters import check_number
from rlcap.rewards.caption_qa.questions import NOT_STATED, Choice, QuestionReader, build_request, parse_questions
from rlcap.types import Sample, Score


def credit(option: str, answer: str, unknown: float | None = 0.25) -> float:
    """Return 1 for the right option, `unknown` for "the caption does not tell", and 0 for any other."""
    return 1.0 if option == answer else unknown if option == NOT_STATED and unknown is not None else 0.0


class CaptionQa(JudgeReward):
    """Caption question answering as a reward.

    Args:
        judge: answers the questions; see `rlcap.judge.config:JudgeConfig`. It is never shown the image.
        draws: how often each question is asked, with its options in another order each time.
        most: how many questions of an image are asked, its first ones.
        unknown: credit in [0, 1] of "the caption does not tell". The default, .25, is what a guess among four options
            gains on average, so that a guess gains nothing. null: the option is not offered, and the judge guesses.
        enough: share of the answers in (0, 1] that must be readable; otherwise the caption abstains.
        questions: `module:function`, from a sample to its questions, in place of `meta["questions"]`.
    """

    name, range, needs, version = "caption_qa", (0.0, 1.0), frozenset({"meta"}), "1"
    prompt_file, grader_kind = Path(__file__).parent / "prompt.txt", QuestionReader

    def __init__(
        self,
        judge: JudgeSpec,
        draws: int = 2,
        most: int = 5,
        unknown: float | None = 0.25,
        enough: float = 0.5,
        questions: str | None = None,
    ) -> None:
        check_number("draws", draws, low=1)
        check_number("most", most, low=1)
        check_number("unknown", unknown or 0, low=0, high=1)
        check_number("enough", enough, above=0, high=1)
        super().__init__(judge)
        self.draws, self.most, self.unknown, self.enough = draws, most, unknown, enough
        self.make_questions = resolve(questions) if questions else None

    def questions(self, sample: Sample) -> list[Choice]:
        """Return the questions about a sample.

        Raises:
            QuestionError: where one is malformed.
        """
        rows = self.make_questions(sample) if self.make_questions else sample.meta.get("questions")
        return parse_questions(rows, sample.id)[: self.most]

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Ask every question `draws` times."""
        draws = [(choice, draw) for choice in self.questions(sample) for draw in range(self.draws)]
        return [build_request(choice, caption, sample, draw, self.unknown is not None) for choice, draw in draws]

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Return the mean credit of the answers that could be read."""
        if not graded:
            return Score.abstain('no questions about this image in meta["questions"]')
        choices = [choice for choice in self.questions(sample) for _ in range(self.draws)]
        answers = [(c, one.verdict) for c, one in zip(choices, graded, strict=True) if one.verdict is not None]
        if len(answers) < self.enough * len(graded):
            unread = next(one for one in graded if one.verdict is None)
            reason = f"{len(answers)} of {len(graded)} answers could be read; one that could not: {unread.reason}"
            return Score.abstain(reason, note=unread.reply)
        value = sum(credit(option, choice.answer, self.unknown) for choice, option in answers) / len(answers)
        return Score(value, note="\n".join(f"{c.question} {option} ({c.answer})" for c, option in answers))
