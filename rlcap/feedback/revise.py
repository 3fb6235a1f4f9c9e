"""Textual gradient descent on a caption: loss, gradient, step, by textgrad (Yuksekgonul et al. 2024, arXiv 2406.07496).

    reviser = Reviser(engine, Prompt.read("rlcap/feedback/revise.txt"))
    found = reviser.revise("a dog.", sample)            # .caption, .critiques, or .reason where nothing came of it

A round is three calls: the loss criticises the caption by what is known of the image, the gradient turns that into
feedback, the step rewrites the caption. textgrad's prompts and loop are used as they are; its faults are kept out. It shows
an optimiser only the ends of a long text: here it shows all. It raises where a reply lacks the tags: here the caption stays
as it is, with the reason. It asks engines itself, without patience: here every call goes through a `Judge` (timeout,
retries, breaker, rates, budget).
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcap.errors import ImageError, NoReplyError
from rlcap.io.images import open_image
from rlcap.judge.backends.loading import import_textgrad
from rlcap.judge.judge import Judge, Question, RetryPolicy, places
from rlcap.judge.limits import Limits
from rlcap.judge.templates import Prompt, delimit, sanitize
from rlcap.reward.base import run_coroutine
from rlcap.types import Sample

PROMPT = Path(__file__).parent / "revise.txt"
"""The shipped prompt of the loss."""
ROLE = "caption of an image"
CONSTRAINTS = (
    "Describe the image only. Do not talk about the caption, the feedback, or yourself.",
    "Take back what the feedback calls wrong; add what it calls missing; keep what is right.",
    "Plain prose, no lists, no headings.",
)


@dataclass(frozen=True, slots=True)
class Revision:
    """What became of one caption."""

    caption: str
    """The last rewriting that could be read; the caption itself where there was none."""
    critiques: tuple[str, ...]
    """The loss of each round, in words."""
    reason: str | None = None
    """Why the rounds ended before their number; None where they didn't."""


class Reviser:
    """An engine that criticises and rewrites.

    engine: see `rlcap.judge.judge`. prompt: the loss: its system part is asked, its user part holds {references} (what is
    known) and {caption}. rounds: of loss, gradient and step a caption. image: whether an engine that can see gets it.
    """

    def __init__(
        self,
        engine: Any,
        prompt: Prompt,
        rounds: int = 1,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        retry_policy: RetryPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.engine, self.prompt, self.rounds = engine, prompt, rounds
        self.sampling, self.sees = dict(sampling or {}), image and bool(getattr(engine, "is_multimodal", False))
        self.retry_policy, self.limits = retry_policy or RetryPolicy(), limits or Limits()
        self.textgrad = import_textgrad()

    def revise_all(self, captions: Sequence[str], samples: Sequence[Sample]) -> list[Revision]:
        """One revision a caption, in order; `retry_policy.concurrency` captions at once."""
        with ThreadPoolExecutor(places(self.engine, self.retry_policy)) as pool:
            return list(pool.map(self.revise, captions, samples))

    def revise(self, caption: str, sample: Sample) -> Revision:
        """`rounds` steps down the gradient. JudgeError where the engine can't work at all."""
        critiques: list[str] = []
        variable = whole(sanitize(caption), ROLE)
        try:
            judge = Judge(self.engine, self.retry_policy, self.limits)
            image = _picture(sample) if self.sees else None
            engine = patient(judge, sample, self.sampling)
            critic = patient(judge, sample, self.sampling, lambda text: self._asked(str(text), sample, image))
            descent = self.textgrad.TextualGradientDescent(
                parameters=[variable], engine=engine, constraints=list(CONSTRAINTS)
            )
            for _ in range(self.rounds):
                descent.zero_grad()
                loss = self.textgrad.TextLoss(self.prompt.system, engine=critic)(variable)
                critiques.append(loss.value)
                loss.backward(engine)
                descent.step()
        except NoReplyError as error:
            return Revision(_of(variable, caption), tuple(critiques), str(error))
        except ImageError as error:
            return Revision(caption, (), str(error))
        except IndexError:  # how textgrad says that a reply lacks its tags
            return Revision(
                _of(variable, caption), tuple(critiques), "the rewriting stood in no <IMPROVED_VARIABLE> tags"
            )
        return Revision(_of(variable, caption), tuple(critiques))

    def _asked(self, caption: str, sample: Sample, image: bytes | None) -> str | list[str | bytes]:
        """The user part of the loss: the caption fenced as data, beside what is known."""
        known = "\n".join(f"- {text}" for text in sample.references if text.strip()) or "(nothing was written)"
        text = self.prompt.fill({"references": delimit("references", known), "caption": delimit("caption", caption)})
        return text if image is None else [text, image]


def _of(variable: Any, caption: str) -> str:
    found = variable.value.strip()
    return found if found and found != sanitize(caption) else caption


def patient(
    judge: Judge, sample: Sample, sampling: Mapping[str, Any], change: Callable[[Any], Any] | None = None
) -> Any:
    """An engine as textgrad wants it, whose calls go through the judge (textgrad calls from a plain thread: an event loop a
    call). change: applied to what is asked. Its calls raise NoReplyError, and JudgeError where the judge's engine can't work."""

    class Engine(import_textgrad().EngineLM):
        model_string = judge.engine.model_string

        def generate(self, prompt: Any, system_prompt: str | None = None, **_: Any) -> str:
            question = Question(change(prompt) if change else prompt, system_prompt or "", sample)
            (answer,) = run_coroutine(functools.partial(judge.ask, [question], sampling))
            if answer.reply is None:
                raise NoReplyError(str(answer.reason))
            return answer.reply

        __call__ = generate

    return Engine()


def whole(text: str, role: str) -> Any:
    """A textgrad variable whose text is never cut: by itself textgrad shows the first and last ten words."""

    class Whole(import_textgrad().Variable):
        def get_short_value(self, n_words_offset: int = 10) -> str:
            return self.value

    return Whole(text, requires_grad=True, role_description=role)


def _picture(sample: Sample) -> bytes:
    image = open_image(sample.image)
    image.thumbnail((1024, 1024))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()
