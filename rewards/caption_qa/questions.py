"""Multiple-choice questions about an image, for a judge that has read only its caption.

A row brings its own questions, in `meta["questions"]`:

    [{"question": "What colour is the ball?", "options": ["red", "blue", "green", "white"], "answer": "red"}, …]

The answer is an option's text or its letter. `curate` finds out which questions are worth asking: those that can be
answered from the image (or from an oracle's text) and not without it. Run it once over the data set, and keep the
questions that it keeps:

    reader = CaptionQa("openai:gpt-4o-mini").grader
    trials = await curate(samples, reader, oracle=lambda sample: sample.paragraph)
    rows = {id: [trial.question.row() for trial in trials if trial.sample == id and trial.kept] for id in ids}
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import ConfigError, QuestionError, ReplyFormatError
from rlcap.io.cache import content_hash
from rlcap.judge.grader import GradedCaption, Grader
from rlcap.judge.parsing import strip_wrapping
from rlcap.judge.templates import delimit
from rlcap.types import Sample

NOT_STATED, OTHER_ANSWER = "The caption does not tell.", "The caption says something else, or contradicts itself."
MAX_OPTIONS = 24
"""The number of letters, less those of NOT_STATED and OTHER_ANSWER."""
NO_CAPTION = "(There is no caption.)"
"""Takes the caption's place where a question is asked without one."""
_REPLY = re.compile(r"(?:answer\s*:)?\s*\**\(?([A-Z])\)?\**[.:)]?\**(?:\s+(\S.*?))?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question."""

    question: str
    options: tuple[str, ...]
    answer: str
    """The right one of the options."""

    def row(self) -> dict[str, Any]:
        """Return the question as it is written in `meta["questions"]`."""
        return {"question": self.question, "options": list(self.options), "answer": self.answer}


def parse_questions(rows: Any, sample: str) -> list[Choice]:
    """Read the questions of a sample.

    Args:
        rows: the value of `meta["questions"]`; None gives [].
        sample: the sample's id, for error messages.

    Raises:
        QuestionError: for a question that can't be asked; it names the sample and the question.
    """
    if rows is None:
        return []
    if not isinstance(rows, list | tuple):
        raise QuestionError(f'sample {sample!r}: meta["questions"] must be a list, got {rows!r:.60}')
    return [_parse_question(row, f'sample {sample!r}: meta["questions"][{i}]') for i, row in enumerate(rows)]


def _parse_question(row: Any, where: str) -> Choice:
    if not isinstance(row, Mapping) or (missing := [k for k in ("question", "options", "answer") if k not in row]):
        problem = f"lacks {', '.join(missing)}" if isinstance(row, Mapping) else f"is {row!r:.60}"
        raise QuestionError(f"{where} {problem}; write {{question: …, options: [… , …], answer: one of them}}")
    question, options = row["question"], row["options"]
    if not isinstance(question, str) or not question.strip():
        raise QuestionError(f"{where} must ask something, got {question!r:.60}")
    texts = [_line(option) for option in options] if isinstance(options, list | tuple) else []
    if not 2 <= len(texts) <= MAX_OPTIONS or not all(texts):
        raise QuestionError(f"{where} needs 2 to {MAX_OPTIONS} texts as options, got {options!r:.80}")
    if len({text.casefold() for text in [*texts, NOT_STATED, OTHER_ANSWER]}) < len(texts) + 2:
        raise QuestionError(f"{where} has two options of the same text, or one of ours: {options!r:.80}")
    answer_text = _line(row["answer"])
    letters = dict(zip(string.ascii_uppercase, texts, strict=False))
    answer = answer_text if answer_text in texts else letters.get(answer_text)
    if answer is None:
        raise QuestionError(f"{where}: the answer must be one of the options or its letter, got {row['answer']!r:.60}")
    return Choice(_line(question), tuple(texts), answer)


def _line(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""


def order_options(choice: Choice, caption: str, sample: str, draw: int) -> tuple[str, ...]:
    """Return the options in the order of draw 0, 1, …, which depends on the four arguments alone.

    A judge may prefer the first letter. So the right option moves by one place with each draw, from a start that a hash
    of the caption, the sample and the question determines. Over as many draws as there are options, a judge that always
    gives the same letter is right once. The hash includes the caption so that no policy can learn one letter for an
    image.

    Args:
        choice: the question.
        caption: the caption.
        sample: the sample's id.
        draw: number of the draw, from 0.
    """
    start = int(content_hash(caption=caption, sample=sample, question=choice.question)[:16], 16)
    wrong = [option for option in choice.options if option != choice.answer]
    wrong.sort(key=lambda option: content_hash(c=caption, s=sample, q=choice.question, d=draw, o=option))
    place = (start + draw) % len(choice.options)
    return (*wrong[:place], choice.answer, *wrong[place:])


def parse_choice(reply: str, options: Sequence[str]) -> str:
    """Return the option that a reply names: `B`, `(b)`, `B. blue`, `Answer: B`, or `blue`.

    Raises:
        ReplyFormatError: for any other reply.
    """
    reply = strip_wrapping(reply)
    answer_text = reply.strip(".").casefold()
    for option in options:
        if answer_text == option.strip(".").casefold():
            return option
    match = _REPLY.fullmatch(reply)
    place = string.ascii_uppercase.index(match[1].upper()) if match else len(options)
    if match is None or place >= len(options):
        raise ReplyFormatError(f"a letter from A to {string.ascii_uppercase[len(options) - 1]} was asked for")
    if match[2] and match[2].strip(". ").casefold() != options[place].strip(".").casefold():
        raise ReplyFormatError(f"letter {match[1]} and another text than its option's")
    return options[place]


class QuestionReader(Grader):
    """Asks one question in one order of its options, as `build_request` makes it.

    The verdict is the option that the judge named. The judge is given nothing of the sample but its image, and the
    image only with `image=True`.
    """

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption, the question and the lettered options."""
        lines = [f"{letter}. {o}" for letter, o in zip(string.ascii_uppercase, sample.meta["options"], strict=False)]
        return {
            "caption": delimit("caption", caption),
            "question": delimit("question", sample.meta["question"]),
            "options": delimit("options", "\n".join(lines)),
        }

    def has_material(self, sample: Sample) -> bool:
        """Return True: the caption is all that the judge may use."""
        return True

    def parse(self, reply: str, sample: Sample) -> str:
        """Read the option that a reply names.

        Raises:
            ReplyFormatError: for a reply that names none.
        """
        return parse_choice(reply, sample.meta["options"])


def build_request(choice: Choice, caption: str, sample: Sample, draw: int, untold: bool = True) -> tuple[str, Sample]:
    """Return a caption and a question about it, as a sample that holds nothing else but its id and image.

    Args:
        choice: the question.
        caption: the caption.
        sample: the sample that the caption describes.
        draw: number of the draw, which determines the order of the options.
        untold: whether NOT_STATED and OTHER_ANSWER are offered as well.
    """
    options = [*order_options(choice, caption, sample.id, draw), *((OTHER_ANSWER, NOT_STATED) if untold else ())]
    return caption, Sample(sample.id, sample.image, meta={"question": choice.question, "options": options})


@dataclass(frozen=True, slots=True)
class Trial:
    """How a question was answered.

    Both shares are of the answers that could be read, in [0, 1]; they are None where there are none.
    """

    sample: str
    question: Choice
    right_with: float | None
    """Share of right answers with the image, or with the oracle's text."""
    right_without: float | None
    """Share of right answers without either."""
    kept: bool


async def curate(
    samples: Sequence[Sample],
    reader: QuestionReader,
    blind: QuestionReader | None = None,
    oracle: Callable[[Sample], str] | None = None,
    draws: int = 8,
    high: float = 0.75,
    low: float = 0.25,
) -> list[Trial]:
    """Find the questions that can be answered from the image and not without it (the filter of CapRL).

    A question is kept where `reader` answers it correctly on more than `high` of the draws, given the image or the
    oracle's text, and `blind` on less than `low` of them, given neither. A question that nobody answers is not kept.

    Args:
        samples: the samples, with their questions in `meta["questions"]`.
        reader: answers from the image or from the oracle's text.
        blind: answers from neither; by default the reader.
        oracle: sample → a text that tells everything about the image. Without it the reader must see the image.
        draws: how often each question is asked.
        high: share above which the reader must be right.
        low: share below which the blind reader must be right.

    Returns:
        One trial for each question.

    Raises:
        ConfigError: where neither an oracle nor the image tells the reader anything, or where the blind reader sees the
            image.
        QuestionError: for a question that can't be asked.
        JudgeError: where a judge can't work at all.
    """
    blind = blind or reader
    if (oracle is None and not reader.sees_image) or blind.sees_image:
        raise ConfigError(
            "curate needs a reader that sees the image (image=True) or an oracle, and a blind reader that does not see it"
        )
    questions = [(s, choice) for s in samples for choice in parse_questions(s.meta.get("questions"), s.id)]

    async def share_right(grader: QuestionReader, text: Callable[[Sample], str]) -> list[float | None]:
        requests = [build_request(choice, text(s), s, draw) for s, choice in questions for draw in range(draws)]
        graded, _ = await grader.grade([caption for caption, _ in requests], [sample for _, sample in requests])
        return [_share(graded[i * draws : (i + 1) * draws], choice) for i, (_, choice) in enumerate(questions)]

    shares_with = await share_right(reader, oracle or (lambda _: NO_CAPTION))
    shares_without = await share_right(blind, lambda _: NO_CAPTION)
    return [
        Trial(
            s.id,
            choice,
            with_image,
            without_image,
            with_image is not None and without_image is not None and with_image > high and without_image < low,
        )
        for (s, choice), with_image, without_image in zip(questions, shares_with, shares_without, strict=True)
    ]


def _share(graded: Sequence[GradedCaption], choice: Choice) -> float | None:
    answers = [one.verdict for one in graded if one.verdict is not None]
    return sum(answer == choice.answer for answer in answers) / len(answers) if answers else None
