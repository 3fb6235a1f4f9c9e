"""Textual gradient descent on a prompt.

A judge reads how captions (or verdicts) came out under a prompt, and rewrites the prompt. A rewriting is kept where a score on images that
the judge was not shown rises.

    result = optimize_prompt(start, ROLE, describe=…, score=…, judge=judge, rounds=5)
    result.best, result.history

What is optimised is a text that a function scores; this module knows neither captioners nor rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import NoReplyError
from rlcap.feedback.revise import NO_TAGS, judge_engine, uncut_variable
from rlcap.judge.backends.textgrad import import_textgrad
from rlcap.judge.judge import Judge
from rlcap.types import Sample

NO_SAMPLE = Sample("", "")
"""A prompt belongs to no image."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One prompt that was tried."""

    text: str
    """The prompt; empty where no prompt came of the round."""
    score: float | None
    """On the held-out images; None where no prompt came of the round."""
    kept: bool
    """Whether it became the best so far."""
    reason: str | None = None
    """Why no prompt came of the round."""


@dataclass(frozen=True, slots=True)
class OptimizedPrompt:
    """The result of an optimisation."""

    best: str
    """The prompt with the highest score."""
    history: Sequence[Trial]
    """All trials, beginning with the start."""

    @property
    def score(self) -> float:
        """The score of the best prompt."""
        return max(tried.score for tried in self.history if tried.score is not None)


def optimize_prompt(
    start: str,
    role: str,
    *,
    describe: Callable[[str], str],
    score: Callable[[str], float],
    judge: Judge,
    rounds: int,
    constraints: Sequence[str] = (),
    sampling: Mapping[str, Any] | None = None,
    report: Callable[[Trial], None] = lambda _: None,
) -> OptimizedPrompt:
    """Take `rounds` steps from `start`, each from the best prompt so far.

    Args:
        start: the prompt to begin with.
        role: what the text is, for the judge.
        describe: from a prompt to a description in words of what came of it on the training images: the loss.
        score: from a prompt to a number on held-out images; higher is better.
        judge: rewrites the prompt.
        rounds: number of steps.
        constraints: rules for the rewriting.
        sampling: parameters of every call.
        report: called with each trial as soon as it is known.

    Returns:
        The best prompt and all trials. A round without a usable reply is a trial without a score.

    Raises:
        JudgeError: where the judge's backend can't work at all.
    """
    textgrad = import_textgrad()
    engine = judge_engine(judge, NO_SAMPLE, dict(sampling or {}))
    best = Trial(start, score(start), True)
    report(best)
    history = [best]
    for _ in range(rounds):
        variable = uncut_variable(best.text, role)
        variable.gradients.add(textgrad.Variable(describe(best.text), role_description=f"feedback to {role}"))
        descent = textgrad.TextualGradientDescent(parameters=[variable], engine=engine, constraints=list(constraints))
        try:
            descent.step()
            text = variable.value.strip()
            if not text or text in {tried.text for tried in history}:
                trial = Trial(text, None, False, "the judge wrote nothing new")
            else:
                value = score(text)
                assert best.score is not None  # only a trial with a score becomes the best
                trial = Trial(text, value, value > best.score)
        except NoReplyError as error:
            trial = Trial("", None, False, str(error))
        except IndexError:  # how textgrad reports a reply without its tags
            trial = Trial("", None, False, NO_TAGS)
        history.append(trial)
        report(trial)
        best = trial if trial.kept else best
    return OptimizedPrompt(best.text, history)
