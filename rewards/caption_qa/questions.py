"""Multiple-choice questions about an image, put to a judge that has read its caption.

A row brings its own, in `meta["questions"]`:

    [{"question": "What colour is the ball?", "options": ["red", "blue", "green", "white"], "answer": "red"}, …]

The answer is an option's text or its letter. Which of them are worth asking, `curate` finds: those that can be answered
from the image (or an oracle's text) and not without it. Run it once, over the data set, and keep what it keeps:

    reader = CaptionQa("openai:gpt-4o-mini").grader
    found = await curate(samples, reader, oracle=lambda sample: sample.paragraph)
    rows = {id: [trial.question.row() for trial in found if trial.sample == id and trial.kept] for id in ids}
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
"""The alphabet, less the letters of UNTOLD and ELSE."""
NO_CAPTION = "(There is no caption.)"
"""Stands for the caption where a question is asked without one."""
_REPLY = re.compile(r"(?:answer\s*:)?\s*\**\(?([A-Z])\)?\**[.:)]?\**(?:\s+(\S.*?))?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with its options."""

    question: str
    options: tuple[str, ...]
    answer: str
    """The right one of the options."""

    def row(self) -> dict[str, Any]:
        """As it stands in `meta["questions"]`."""
        return {"question": self.question, "options": list(self.options), "answer": self.answer}


def parse_questions(rows: Any, sample: str) -> list[Choice]:
    """What stands in `meta["questions"]` of the sample of that name. [] where there is nothing; QuestionError."""
    if rows is None:
        return []
    if not isinstance(rows, list | tuple):
        raise QuestionError(f'sample {sample!r}: meta["questions"] must be a list, got {rows!r:.60}')
    return [_question(row, f'sample {sample!r}: meta["questions"][{i}]') for i, row in enumerate(rows)]


def _question(row: Any, where: str) -> Choice:
    if not isinstance(row, Mapping) or (missing := [k for k in ("question", "options", "answer") if k not in row]):
        lacks = f"lacks {', '.join(missing)}" if isinstance(row, Mapping) else f"is {row!r:.60}"
        raise QuestionError(f"{where} {lacks}; write {{question: …, options: [… , …], answer: one of them}}")
    question, options = row["question"], row["options"]
    if not isinstance(question, str) or not question.strip():
        raise QuestionError(f"{where} must ask something, got {question!r:.60}")
    texts = [_line(option) for option in options] if isinstance(options, list | tuple) else []
    if not 2 <= len(texts) <= MAX_OPTIONS or not all(texts):
        raise QuestionError(f"{where} needs 2 to {MAX_OPTIONS} texts as options, got {options!r:.80}")
    if len({text.casefold() for text in [*texts, NOT_STATED, OTHER_ANSWER]}) < len(texts) + 2:
        raise QuestionError(f"{where} has two options of the same text, or one of ours: {options!r:.80}")
    said = _line(row["answer"])
    letters = dict(zip(string.ascii_uppercase, texts, strict=False))
    answer = said if said in texts else letters.get(said)
    if answer is None:
        raise QuestionError(f"{where}: the answer must be one of the options or its letter, got {row['answer']!r:.60}")
    return Choice(_line(question), tuple(texts), answer)


def _line(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""


def order_options(choice: Choice, caption: str, sample: str, draw: int) -> tuple[str, ...]:
    """The options in the order of draw 0, 1, …: a hash of all four arguments, and of nothing that runs.

    A judge may like the first letter. So the right option moves on by one place with each draw, from a place that the
    caption's hash says: over as many draws as there are options, whoever always says the same letter is right once. The
    caption has its part in it so that no policy can learn a letter by heart for an image.
    """
    start = int(content_hash(caption=caption, sample=sample, question=choice.question)[:16], 16)
    wrong = [option for option in choice.options if option != choice.answer]
    wrong.sort(key=lambda option: content_hash(c=caption, s=sample, q=choice.question, d=draw, o=option))
    place = (start + draw) % len(choice.options)
    return (*wrong[:place], choice.answer, *wrong[place:])


def parse_choice(reply: str, options: Sequence[str]) -> str:
    """The option that a reply names: `B`, `(b)`, `B. blue`, `Answer: B`, or `blue`. ReplyFormatError for anything else."""
    reply = strip_wrapping(reply)
    said = reply.strip(".").casefold()
    for option in options:
        if said == option.strip(".").casefold():
            return option
    match = _REPLY.fullmatch(reply)
    place = string.ascii_uppercase.index(match[1].upper()) if match else len(options)
    if match is None or place >= len(options):
        raise ReplyFormatError(f"a letter from A to {string.ascii_uppercase[len(options) - 1]} was asked for")
    if match[2] and match[2].strip(". ").casefold() != options[place].strip(".").casefold():
        raise ReplyFormatError(f"letter {match[1]} and another text than its option's")
    return options[place]


class QuestionReader(Grader):
    """A critic that is asked one question in one order of its options: `build_request`. Its verdict is the option that the judge
    named. It knows of the sample its image alone, and that only where it was made with `image=True`."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        lines = [f"{letter}. {o}" for letter, o in zip(string.ascii_uppercase, sample.meta["options"], strict=False)]
        return {
            "caption": delimit("caption", caption),
            "question": delimit("question", sample.meta["question"]),
            "options": delimit("options", "\n".join(lines)),
        }

    def has_material(self, sample: Sample) -> bool:
        return True

    def parse(self, reply: str, sample: Sample) -> str:
        return parse_choice(reply, sample.meta["options"])


def build_request(choice: Choice, caption: str, sample: Sample, draw: int, untold: bool = True) -> tuple[str, Sample]:
    """A caption and, as a sample that knows nothing else, a question about it. untold: offer UNTOLD and ELSE as well."""
    options = [*order_options(choice, caption, sample.id, draw), *((OTHER_ANSWER, NOT_STATED) if untold else ())]
    return caption, Sample(sample.id, sample.image, meta={"question": choice.question, "options": options})


@dataclass(frozen=True, slots=True)
class Trial:
    """How a question did. Both shares are of the answers that could be read, in [0, 1]; NaN is written as None."""

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
    """CapRL's filter: a question is kept where it is answered rightly on more than `high` of the draws by `reader`, who is
    given the image or the oracle's text, and on less than `low` of them by `blind` (default: the reader), who has neither.

    oracle: sample → a text that tells everything; without one the reader must see. A question that nobody answers is not
    kept. Raises ConfigError, QuestionError, JudgeError.
    """
    blind = blind or reader
    if (oracle is None and not reader.sees_image) or blind.sees_image:
        raise ConfigError("curate needs a reader that sees (image=True) or an oracle, and a blind one that doesn't see")
    known = [(s, choice) for s in samples for choice in parse_questions(s.meta.get("questions"), s.id)]

    async def right(who: QuestionReader, text: Callable[[Sample], str]) -> list[float | None]:
        asks = [build_request(choice, text(s), s, draw) for s, choice in known for draw in range(draws)]
        read, _ = await who.grade([caption for caption, _ in asks], [sample for _, sample in asks])
        return [_share(read[i * draws : (i + 1) * draws], choice) for i, (_, choice) in enumerate(known)]

    seen = await right(reader, oracle or (lambda _: NO_CAPTION))
    unseen = await right(blind, lambda _: NO_CAPTION)
    return [
        Trial(s.id, choice, w, wo, w is not None and wo is not None and w > high and wo < low)
        for (s, choice), w, wo in zip(known, seen, unseen, strict=True)
    ]


def _share(opinions: Sequence[GradedCaption], choice: Choice) -> float | None:
    answers = [opinion.verdict for opinion in opinions if opinion.verdict is not None]
    return sum(answer == choice.answer for answer in answers) / len(answers) if answers else None
