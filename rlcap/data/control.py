"""Controls: how a row's demand becomes words of its instruction, and where a row's control comes from.

    instruct("Describe the image.", Control(length=40))             "Describe the image. Use about 40 words."
    instruct("a photo of", Control(length=40), "prefix")            "length 40: a photo of"

A control is a part of a row (`Sample.control`), of the configuration (`data.control`), or drawn for each row and epoch from a
distribution (`generation.controls`, see `ControlSampler`). `instruct` is the one place where it becomes text.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlcap.config.controls import VALUE, tabulate
from rlcap.errors import ConfigError
from rlcap.scorers.text.lengths import BANDS
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Control, Sample

Phrase = str | Mapping[Any, str]
"""The words of a control: a text with the field {value}, or a mapping from values to texts. A number that the mapping does not have
takes the text of the nearest one."""
Form = Literal["request", "prefix", "none"]
"""How a captioner reads its instruction: as a request that can be followed by others, as the beginning of the caption, or not at all."""

PHRASES: Mapping[str, Phrase] = {
    "format": {
        "SSC": "Write one short caption of 10 to 15 words.",
        "DSC": "Write a dense caption of 40 to 60 words.",
        "DSC+": "Write a very detailed caption of more than 100 words.",
        "AFC": "Write a caption that keeps what the image's alt-text knows.",
    },
    "length": "Use about {value} words.",
    "level": "Write at quality level {value}.",
    "source": "Write as the captions of {value} are written.",
    "question": "The caption must answer this question: {value}",
    "region": "Describe only the region {value} (left, top, right, bottom, as shares of the image).",
    "language": "Write in {value}.",
    "style": "Write in this style: {value}.",
}
"""The words of each control after a request."""
PREFIXES: Mapping[str, Phrase] = {name: f"{name} {{value}}:" for name in PHRASES}
"""The words of each control before the beginning of a caption."""
DEFAULTS: Mapping[Form, Mapping[str, Phrase]] = {"request": PHRASES, "prefix": PREFIXES}
"""Form of the instruction → the words of each control, unless the data set or the configuration has others."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """The instruction that all rows share, and the words for controls where they are not the default ones."""

    text: str
    """The instruction to the captioner."""
    phrases: Mapping[str, Phrase] = field(default_factory=dict)
    """Control → its words, for those that differ from `DEFAULTS`."""

    @classmethod
    def of(cls, instruction: str | Instruction) -> Instruction:
        """Return the instruction; a text has the default words for controls."""
        return Instruction(instruction) if isinstance(instruction, str) else instruction


def instruct(instruction: str | Instruction, control: Control, form: Form = "request") -> str:
    """Return the instruction of a row. Without a demand it is the common instruction, character for character.

    Args:
        instruction: The instruction that all rows share.
        control: What is asked of this row's caption.
        form: How the captioner reads an instruction. The words of the control follow a request, and precede the beginning of a caption.

    Raises:
        ConfigError: The captioner reads no instruction, or a value of the control has no words.
    """
    shared = Instruction.of(instruction)
    if not control:
        return shared.text
    if form == "none":
        raise ConfigError(
            f"the control {control.to_dict()} has no effect: this captioner reads no instruction; remove the controls, or choose another "
            "model.base"
        )
    demands = {name: getattr(control, name) for name in control.to_dict()}
    words = [_express(name, v, shared.phrases.get(name, DEFAULTS[form][name])) for name, v in demands.items()]
    ordered = [shared.text, *words] if form == "request" else [*words, shared.text]
    return " ".join(part for part in ordered if part)


def _express(name: str, value: Any, phrase: Phrase) -> str:
    """Return the words of one demand."""
    if isinstance(phrase, str):
        text = ", ".join(f"{edge:.2f}" for edge in value) if name == "region" else str(value)
        return phrase.replace(VALUE, text)
    if value in phrase:
        return phrase[value]
    numbers = [key for key in phrase if isinstance(key, int | float)]
    if isinstance(value, int) and numbers:
        return phrase[min(numbers, key=lambda key: (abs(key - value), key))]
    raise ConfigError(
        f"data.control_phrases.{name} has no words for {value!r}, only for {', '.join(map(str, phrase))}; add them"
    )


# ---- where a row's control comes from --------------------------------------------------------------------------------


def words_in(text: str) -> int:
    """Return the number of words of a text, as the reward `length` counts them."""
    return len(tokenize(text))


def format_of(text: str) -> str | None:
    """Return the format in whose band of words a caption lies: SSC, DSC or DSC+; None where it lies in none."""
    words = words_in(text)
    return next((name for name, (low, high) in BANDS.items() if low <= words <= high), None)


def measure_control(text: str, names: Sequence[str]) -> Control:
    """Return the control that a caption already meets.

    Args:
        text: The caption.
        names: What is measured: `length`, `format` or both.
    """
    return Control(
        length=(words_in(text) or None) if "length" in names else None,
        format=format_of(text) if "format" in names else None,
    )


def fill_controls(samples: Sequence[Sample], fixed: Control, from_paragraph: Sequence[str] = ()) -> Sequence[Sample]:
    """Return the samples with a control where they set none: what the row says, else its paragraph, else the fixed control.

    Args:
        samples: The samples. Without anything to fill in, the same sequence is returned.
        fixed: The control of all rows.
        from_paragraph: What is measured on the paragraph: `length`, `format` or both.
    """
    if not fixed and not from_paragraph:
        return samples
    return [
        replace(
            sample, control=sample.control.over(measure_control(sample.paragraph or "", from_paragraph).over(fixed))
        )
        for sample in samples
    ]


# ---- distributions over controls -------------------------------------------------------------------------------------


class ControlSampler:
    """Draws the control of a row from a distribution for each key.

    A draw is a pure function of (seed, epoch, sample id). So all captions of an image in a round have the same control, and a resumed
    run draws the same ones as a run that never stopped.

    Args:
        distributions: Control → its distribution, as `rlcap.config.controls.tabulate` reads it.
        seed: Seed of the draws.

    Raises:
        ValueError: A distribution is malformed, or a value is not one that the control can have.
    """

    def __init__(self, distributions: Mapping[str, Any], seed: int = 0) -> None:
        self.seed = seed
        self._tables: dict[str, tuple[list[Any], list[float]]] = {}
        for name, wanted in distributions.items():
            weighted = tabulate(name, wanted)
            cumulated = itertools.accumulate(weight for _, weight in weighted)
            self._tables[name] = [value for value, _ in weighted], list(cumulated)

    def draw(self, control: Control, sample_id: str, epoch: int) -> Control:
        """Return a row's control with the drawn values in place of its own.

        Args:
            control: The row's own control.
            sample_id: Id of the sample.
            epoch: Epoch of the run, from 0.
        """
        drawn = {}
        for name, (values, cumulated) in self._tables.items():
            point = random.Random(f"{self.seed}:{epoch}:{sample_id}:{name}").random() * cumulated[-1]
            drawn[name] = values[min(bisect.bisect_right(cumulated, point), len(values) - 1)]
        return replace(control, **drawn) if drawn else control

    def support(self) -> Iterator[Control]:
        """Yield a control for each value that can be drawn, one key at a time, to check their words before a run."""
        for name, (values, _) in self._tables.items():
            for value in values:
                yield Control(**{name: value})
