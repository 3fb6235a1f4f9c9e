"""Textual gradient descent on a caption: loss, gradient and step, by textgrad (Yuksekgonul et al. 2024, arXiv 2406.07496).

    reviser = Reviser(JudgeConfig.of("openai:gpt-4o-mini"))
    revision = reviser.revise("a dog.", sample)          # .caption, .critiques, and .reason where the rounds ended early

A round consists of three calls. The loss criticises the caption by the references (and the image), the gradient turns the
criticism into feedback, and the step rewrites the caption. The prompts and the loop are textgrad's, with three changes:

- textgrad shows only the beginning and the end of a long text to an optimizer. Here the optimizer sees the whole text.
- textgrad raises an error if a reply lacks its tags. Here the caption stays unchanged, and the reason is recorded.
- The engines of textgrad have no timeouts, retries or budgets. Here every call goes through a `Judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcap.errors import ImageError, NoReplyError
from rlcap.judge import event_loop
from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.backends.loading import load_backend
from rlcap.judge.backends.textgrad import import_textgrad
from rlcap.judge.config import JudgeConfig
from rlcap.judge.grader import image_parts
from rlcap.judge.judge import Judge
from rlcap.judge.templates import PromptTemplate, delimit, sanitize
from rlcap.types import Sample, says_something

PROMPT = Path(__file__).parent / "revise.txt"
"""The shipped prompt of the loss."""
ROLE = "caption of an image"
CONSTRAINTS = (
    "Describe the image only. Do not talk about the caption, the feedback, or yourself.",
    "Take back what the feedback calls wrong; add what it calls missing; keep what is right.",
    "Plain prose, no lists, no headings.",
)
NO_TAGS = "the rewriting stood in no <IMPROVED_VARIABLE> tags"
"""Reason of a round whose reply textgrad can't read."""

Parts = tuple[str | bytes, ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """The result for one caption."""

    caption: str
    """The last rewritten caption that could be parsed; the original caption if there was none."""
    critiques: tuple[str, ...]
    """The loss of each round, in words."""
    reason: str | None = None
    """Why the rounds ended early; None if they did not."""


class Reviser:
    """Criticises captions and rewrites them.

    Args:
        config: The judge that criticises and rewrites. Its prompt is that of the loss: the system message contains the task,
            and the user message contains {references} and {caption}. A judge that accepts images also gets the image,
            unless `image` is false.
        rounds: Rounds of loss, gradient and step for each caption.
    """

    def __init__(self, config: JudgeConfig, rounds: int = 1) -> None:
        self.backend, self.rounds = load_backend(config.backend), rounds
        self.template = PromptTemplate.read(config.prompt or PROMPT)
        self.sampling, self.limits, self.retry_policy = config.sampling, config.limits, config.retry_policy
        self.sees_image = config.image is not False and self.backend.accepts_images
        self.textgrad = import_textgrad()

    def revise_all(self, captions: Sequence[str], samples: Sequence[Sample]) -> list[Revision]:
        """Revise N captions of N samples, and return the N revisions. As many calls as the judge allows run at once."""
        with ThreadPoolExecutor(self.retry_policy.places(self.backend)) as pool:
            return list(pool.map(self.revise, captions, samples))

    def revise(self, caption: str, sample: Sample) -> Revision:
        """Take `rounds` steps down the textual gradient of one caption.

        Raises:
            JudgeError: The backend of the judge can't work at all.
        """
        critiques: list[str] = []
        variable = uncut_variable(sanitize(caption), ROLE)
        try:
            judge = Judge(self.backend, self.retry_policy, self.limits)
            image = image_parts(sample) if self.sees_image else ()
            engine = judge_engine(judge, sample, self.sampling)
            loss_engine = judge_engine(
                judge, sample, self.sampling, lambda text: (self._loss_prompt(str(text), sample), *image)
            )
            descent = self.textgrad.TextualGradientDescent(
                parameters=[variable], engine=engine, constraints=list(CONSTRAINTS)
            )
            for _ in range(self.rounds):
                descent.zero_grad()
                loss = self.textgrad.TextLoss(self.template.system, engine=loss_engine)(variable)
                critiques.append(loss.value)
                loss.backward(engine)
                descent.step()
        except NoReplyError as error:
            return Revision(_revised(variable, caption), tuple(critiques), str(error))
        except ImageError as error:
            return Revision(caption, (), str(error))
        except IndexError:  # textgrad raises this for a reply without its tags
            return Revision(_revised(variable, caption), tuple(critiques), NO_TAGS)
        return Revision(_revised(variable, caption), tuple(critiques))

    def _loss_prompt(self, caption: str, sample: Sample) -> str:
        """Return the user message of the loss: the references and the caption, both delimited as data."""
        known = "\n".join(f"- {text}" for text in sample.references if says_something(text)) or "(nothing was written)"
        return self.template.fill({"references": delimit("references", known), "caption": delimit("caption", caption)})


def _revised(variable: Any, caption: str) -> str:
    text: str = variable.value.strip()
    return text if text and text != sanitize(caption) else caption


def judge_engine(
    judge: Judge,
    sample: Sample,
    sampling: dict[str, Any],
    to_parts: Callable[[Any], Parts] = lambda prompt: (str(prompt),),
) -> Any:
    """Return an engine for textgrad whose calls go through a judge.

    Args:
        judge: Answers the calls.
        sample: The sample to which the calls belong.
        sampling: Sampling parameters of every call.
        to_parts: Converts textgrad's prompt to the parts of the request.

    Returns:
        An `EngineLM`. Its calls raise NoReplyError if the judge gives no reply, and JudgeError if its backend can't work.
    """

    class JudgeEngine(import_textgrad().EngineLM):  # type: ignore[misc]  # textgrad is imported late
        model_string = judge.backend.name

        def generate(self, prompt: Any, system_prompt: str | None = None, **_: Any) -> str:
            request = JudgeRequest(to_parts(prompt), system_prompt or "", sample, sampling=sampling)
            (answer,), _usage = event_loop.run(judge.ask([request]))
            if answer.reply is None:
                raise NoReplyError(str(answer.reason))
            return answer.reply

        __call__ = generate

    return JudgeEngine()


def uncut_variable(text: str, role: str) -> Any:
    """Return a textgrad variable that shows its whole text. textgrad's own class shows the first and last ten words."""

    class UncutVariable(import_textgrad().Variable):  # type: ignore[misc]  # textgrad is imported late
        def get_short_value(self, n_words_offset: int = 10) -> str:
            return str(self.value)

    return UncutVariable(text, requires_grad=True, role_description=role)
