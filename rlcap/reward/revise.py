"""Textual gradient descent on a caption: loss, gradient, step, by textgrad (Yuksekgonul et al. 2024, arXiv 2406.07496).

    reviser = Reviser(engine, Prompt.read("rewards/prompts/revise.txt"))
    found = reviser.revise("a dog.", sample)            # .caption, .critiques, or .reason where nothing came of it

A round is three calls: the loss criticises the caption by what is known of the image, the gradient turns that into
feedback, the step rewrites the caption. textgrad's prompts and loop are used as they are; its faults are kept out. It shows
an optimiser only the ends of a long text: here it shows all. It raises where a reply lacks the tags: here the caption stays
as it is, with the reason. It asks engines itself, without patience: here every call goes through a `Judge` (timeout,
retries, breaker, rates, budget).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rlcap.reward.base import run_coroutine
from rlcap.reward.engines import import_textgrad
from rlcap.reward.judge import Judge, Patience, Question
from rlcap.reward.limits import Limits
from rlcap.reward.prompt import Prompt, fence, harmless
from rlcap.scorers.images import ImageError, open_image
from rlcap.types import Sample

ROLE = "caption of an image"
CONSTRAINTS = (
    "Describe the image only. Do not talk about the caption, the feedback, or yourself.",
    "Take back what the feedback calls wrong; add what it calls missing; keep what is right.",
    "Plain prose, no lists, no headings.",
)


class NoReply(Exception):
    """The engine gave no reply to one of the calls; the message says why."""


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

    engine: see `rlcap.reward.judge`. prompt: the loss: its system part is asked, its user part holds {references} (what is
    known) and {caption}. rounds: of loss, gradient and step a caption. image: whether an engine that can see gets it.
    """

    def __init__(
        self,
        engine: Any,
        prompt: Prompt,
        rounds: int = 1,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        patience: Patience | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.engine, self.prompt, self.rounds = engine, prompt, rounds
        self.sampling, self.sees = dict(sampling or {}), image and bool(getattr(engine, "is_multimodal", False))
        self.patience, self.limits = patience or Patience(), limits or Limits()
        self.textgrad = import_textgrad()

    def revise_all(self, captions: Sequence[str], samples: Sequence[Sample]) -> list[Revision]:
        """One revision a caption, in order; `patience.concurrency` captions at once."""
        bound = getattr(self.engine, "max_concurrency", None) or self.patience.concurrency
        with ThreadPoolExecutor(min(self.patience.concurrency, bound)) as pool:
            return list(pool.map(self.revise, captions, samples))

    def revise(self, caption: str, sample: Sample) -> Revision:
        """`rounds` steps down the gradient. JudgeError where the engine can't work at all."""
        critiques: list[str] = []
        try:
            ask = _Asking(self, sample)
            value = self.textgrad.Variable
            variable = _whole(value)(harmless(caption), requires_grad=True, role_description=ROLE)
            descent = self.textgrad.TextualGradientDescent(
                parameters=[variable], engine=ask.engine(), constraints=list(CONSTRAINTS)
            )
            for _ in range(self.rounds):
                descent.zero_grad()
                loss = self.textgrad.TextLoss(self.prompt.system, engine=ask.engine(ask.loss))(variable)
                critiques.append(loss.value)
                loss.backward(ask.engine())
                descent.step()
        except NoReply as error:
            return Revision(_of(variable, caption), tuple(critiques), str(error))
        except ImageError as error:
            return Revision(caption, (), str(error))
        except IndexError:  # how textgrad says that a reply lacks its tags
            return Revision(_of(variable, caption), tuple(critiques), "the rewriting stood in no <IMPROVED_VARIABLE> tags")
        return Revision(_of(variable, caption), tuple(critiques))


def _of(variable: Any, caption: str) -> str:
    found = variable.value.strip()
    return found if found and found != harmless(caption) else caption


class _Asking:
    """One caption's calls, through a judge of its own: textgrad calls from a plain thread, a loop a call."""

    def __init__(self, reviser: Reviser, sample: Sample) -> None:
        self.reviser, self.sample = reviser, sample
        self.judge = Judge(reviser.engine, reviser.patience, reviser.limits)
        self.image = _picture(sample) if reviser.sees else None

    def loss(self, content: Any) -> Any:
        """The user part of the loss: the caption fenced as data, beside what is known."""
        known = "\n".join(f"- {text}" for text in self.sample.references if text.strip()) or "(nothing was written)"
        fields = {"references": fence("references", known), "caption": fence("caption", str(content))}
        text = self.reviser.prompt.fill(fields)
        return [text, self.image] if self.image is not None else text

    def engine(self, change: Any = None) -> Any:
        """An engine as textgrad wants it, whose calls go through the judge; `change` is applied to what is asked."""
        return _engine_of(self.reviser.textgrad)(self, change)

    def ask(self, content: Any, system_prompt: str | None) -> str:
        question = Question(content, system_prompt or "", self.sample)
        (answer,) = run_coroutine(functools.partial(self.judge.ask, [question], self.reviser.sampling))
        if answer.reply is None:
            raise NoReply(str(answer.reason))
        return answer.reply


@functools.lru_cache(maxsize=1)
def _engine_of(textgrad: Any) -> type:
    class Engine(textgrad.EngineLM):
        """textgrad's protocol over `_Asking`."""

        def __init__(self, asking: _Asking, change: Any) -> None:
            self.asking, self.change = asking, change
            self.model_string = asking.reviser.engine.model_string

        def generate(self, prompt: Any, system_prompt: str | None = None, **_: Any) -> str:
            return self.asking.ask(self.change(prompt) if self.change else prompt, system_prompt)

        __call__ = generate

    return Engine


@functools.lru_cache(maxsize=1)
def _whole(variable: type) -> type:
    class Whole(variable):
        """A variable whose text is never cut: by itself textgrad shows the first and last ten words."""

        def get_short_value(self, n_words_offset: int = 10) -> str:
            return self.value

    return Whole


def _picture(sample: Sample) -> bytes:
    import io

    image = open_image(sample.image)
    image.thumbnail((1024, 1024))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()
