"""Textual gradient descent on a prompt: an engine reads how captions (or verdicts) came out under a prompt, and rewrites it;
a rewriting stays where a score on images that the engine was not shown rises.

    found = descend(start, ROLE, told=…, score=…, engine=engine, rounds=5)
    found.best, found.history

What is optimised is text, scored by a function; this module knows neither captioners nor rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import NoReplyError
from rlcap.feedback.revise import patient, whole
from rlcap.judge.backends.loading import import_textgrad
from rlcap.judge.judge import Judge
from rlcap.types import Sample

NOBODY = Sample("", "")
"""A prompt belongs to no image."""


@dataclass(frozen=True, slots=True)
class Try:
    """One prompt that was tried."""

    text: str
    score: float | None
    """On the held-out images; None where no prompt came of the round."""
    kept: bool
    """Whether it became the best so far."""
    reason: str | None = None
    """Why no prompt came of the round."""


@dataclass(frozen=True, slots=True)
class Descent:
    """What came of it."""

    best: str
    history: Sequence[Try]
    """The start first."""

    @property
    def score(self) -> float:
        """Of the best."""
        return max(tried.score for tried in self.history if tried.score is not None)


def descend(
    start: str,
    role: str,
    *,
    told: Callable[[str], str],
    score: Callable[[str], float],
    judge: Judge,
    rounds: int,
    constraints: Sequence[str] = (),
    sampling: Mapping[str, Any] | None = None,
    report: Callable[[Try], None] = lambda _: None,
) -> Descent:
    """`rounds` steps from `start`, each from the best prompt so far.

    Args:
        role: what the text is, for the engine.
        told: prompt → what came of it on the training images, in words: the loss.
        score: prompt → a number on held-out images, higher is better.
        judge: the engine with its patience and budget.
        report: called with each try as it is known.

    Raises JudgeError where the engine can't work at all; a round without a usable reply is told in the history.
    """
    textgrad = import_textgrad()
    engine = patient(judge, NOBODY, dict(sampling or {}))
    best = Try(start, score(start), True)
    report(best)
    history = [best]
    for _ in range(rounds):
        variable = whole(best.text, role)
        variable.gradients.add(textgrad.Variable(told(best.text), role_description=f"feedback to {role}"))
        descent = textgrad.TextualGradientDescent(parameters=[variable], engine=engine, constraints=list(constraints))
        try:
            descent.step()
            text = variable.value.strip()
            if not text or text in {tried.text for tried in history}:
                found = Try(text, None, False, "the engine wrote nothing new")
            else:
                value = score(text)
                found = Try(text, value, value > best.score)
        except NoReplyError as error:
            found = Try("", None, False, str(error))
        except IndexError:  # how textgrad says that a reply lacks its tags
            found = Try("", None, False, "the rewriting stood in no <IMPROVED_VARIABLE> tags")
        history.append(found)
        report(found)
        best = found if found.kept else best
    return Descent(best.text, history)
