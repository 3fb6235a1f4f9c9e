"""Textual gradient descent on a prompt.

A judge reads a description of the results of a prompt, and rewrites the prompt. The new prompt is kept if its score on
held-out images is higher.

    result = optimize_prompt(start, ROLE, describe=…, score=…, judge=judge, rounds=5)
    result.best, result.history

The module optimises any text that a function can score. It depends neither on captioners nor on rewards.
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
"""Sample of the requests: a prompt belongs to no image."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One prompt that was tried."""

    text: str
    """The prompt; empty if the round gave none."""
    score: float | None
    """Score on the held-out images; None if the round gave no new prompt."""
    kept: bool
    """Whether the prompt became the best one so far."""
    reason: str | None = None
    """Why the round gave no new prompt; None if it gave one."""


@dataclass(frozen=True, slots=True)
class OptimizedPrompt:
    """The result of an optimisation."""

    best: str
    """The prompt with the highest score."""
    history: Sequence[Trial]
    """All trials; the first is the original prompt."""

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
        start: The original prompt.
        role: A description of the text's purpose, for the judge.
        describe: Maps a prompt to a description of its results on the training images, which is the loss.
        score: Maps a prompt to its score on the held-out images; higher is better.
        judge: Rewrites the prompt.
        rounds: Number of steps.
        constraints: Rules for the rewritten prompt.
        sampling: Sampling parameters of every call.
        report: Called with each trial as soon as it is finished.

    Returns:
        The best prompt and all trials. A round without a usable reply is a trial without a score.

    Raises:
        JudgeError: The backend of the judge can't work at all.
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
        except IndexError:  # textgrad raises this for a reply without its tags
            trial = Trial("", None, False, NO_TAGS)
        history.append(trial)
        report(trial)
        best = trial if trial.kept else best
    return OptimizedPrompt(best.text, history)
