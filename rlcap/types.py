"""The nouns that every part of rlcap shares. Nothing here imports torch.

A `Sample` is one image with its texts. A `Control` is what is asked of its caption beyond the common instruction. A `Bag` is a set of similar images. A `RewardBatch` is what a reward sees:
captions beside the samples they describe. A `Score` is what it answers: a value, or an abstention with its reason. A `Span` says
which words of the caption a part of that answer is about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

FORMATS = ("SSC", "DSC", "DSC+", "AFC")
"""Caption formats of arXiv 2410.02740: short synthetic, dense synthetic, longer dense synthetic, and alt-text fusion captions."""


def says_something(text: str) -> bool:
    """Return whether a text has a letter or a digit that is visible, in any script.

    "", "...", "!?", a zero-width space and Hangul fillers say nothing. A caption of that kind counts as the empty caption everywhere,
    and a reference of that kind as none: otherwise a scorer that embeds punctuation pays for it.
    """
    return any(character.isalnum() and character not in _FILLERS for character in text)


_FILLERS = "\u115f\u1160\u3164\uffa0"
"""The characters that Unicode counts as letters, and that stand for an absent one and are never shown."""


@dataclass(frozen=True, slots=True)
class Control:
    """What is asked of one caption beyond the instruction that all rows share. None stands for no demand.

    `rlcap.data.control.instruct` turns it into words of the instruction.

    Raises:
        ValueError: A value is of the wrong type or outside its range.
    """

    format: str | None = None
    """One of `FORMATS`."""
    length: int | None = None
    """Length in words, 1 or more."""
    level: int | None = None
    """Quality level, from 1 (the worst) upwards, such as the alignment levels of NoC (arXiv 2212.13563)."""
    source: str | None = None
    """The data set or annotator in whose manner the caption is written."""
    question: str | None = None
    """A question that the caption answers, as in PromptCap (arXiv 2211.09699)."""
    region: tuple[float, float, float, float] | None = None
    """The box that the caption describes: left, top, right and bottom as shares of width and height, in [0, 1]."""
    language: str | None = None
    """The language of the caption."""
    style: str | None = None
    """The style of the caption."""

    def __post_init__(self) -> None:
        for name in ("length", "level"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"control.{name} must be a whole number of 1 or more, got {value!r}")
        for name in ("format", "source", "question", "language", "style"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ValueError(f"control.{name} must be a text that is not empty, got {value!r}")
        if self.format is not None and self.format not in FORMATS:
            raise ValueError(f"control.format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.region is not None and not _is_box(self.region):
            raise ValueError(
                f"control.region must be left, top, right and bottom as shares of width and height, in [0, 1], with left "
                f"< right and top < bottom, got {self.region!r}"
            )

    def __bool__(self) -> bool:
        """Return whether anything is asked."""
        return any(getattr(self, one.name) is not None for one in fields(self))

    @classmethod
    def parse(cls, values: Mapping[str, Any] | str | None) -> Self:
        """Build a control from a mapping, such as a row's column or a part of a configuration, or from its JSON text.

        Numbers and boxes may be texts, as a table and a command line give them: "40", "0,0,0.5,1". None counts as absent.

        Raises:
            ValueError: The text is no JSON object, a key is unknown, or a value is of the wrong type or outside its range.
        """
        if isinstance(values, str):
            try:
                values = json.loads(values) if values.strip() else None
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"control is no JSON object ({error}): {values!r:.80}") from error
        if values is None:
            return cls()
        if not isinstance(values, Mapping):
            raise ValueError(f"control must be a mapping such as {{length: 40}}, got {values!r:.80}")
        if unknown := sorted(str(key) for key in values.keys() - {one.name for one in fields(cls)}):
            known = ", ".join(one.name for one in fields(cls))
            raise ValueError(f"control has the unknown key {', '.join(unknown)}; known are {known}")
        given = {key: value for key, value in values.items() if value is not None}
        for name in ("length", "level"):
            text = given.get(name)
            if (isinstance(text, str) and text.strip().isdecimal()) or (isinstance(text, float) and text.is_integer()):
                given[name] = int(text)
        if (region := given.get("region")) is not None:
            given["region"] = _to_box(region)
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Return what is asked as JSON values, without the keys that ask nothing; `parse` reads it."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: list(value) if name == "region" else value for name, value in values.items() if value is not None}

    def over(self, below: Control) -> Control:
        """Return this control with the demands of `below` where this one has none."""
        return replace(below, **{one.name: v for one in fields(self) if (v := getattr(self, one.name)) is not None})


NO_CONTROL = Control()
"""The control that asks nothing."""


def _to_box(value: Any) -> Any:
    """Return a box as a tuple of numbers; a value that is none stays as it is, for the check of its form."""
    parts = value.strip("[] ").split(",") if isinstance(value, str) else value
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return value


def _is_box(value: Any) -> bool:
    if not (isinstance(value, tuple) and len(value) == 4 and all(isinstance(edge, float) for edge in value)):
        return False
    left, top, right, bottom = value
    return bool(0 <= left < right <= 1 and 0 <= top < bottom <= 1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set. Pixels stay on disk: `image` is a path."""

    id: str
    image: str
    """Path of the image file."""
    references: tuple[str, ...] = ()
    """Short human captions of the image."""
    paragraph: str | None = None
    """The fused paragraph that maximum likelihood trains on."""
    distractors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Level (`hard`, `medium`, `easy`, …) → ids of similar images, nearest first, without the image itself."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Further values of the source, such as a licence."""
    cluster: str = ""
    """The name of the group of similar images that it belongs to, such as the frames of a video. Statistics count such a
    group as one observation. "" where the source knows none."""
    control: Control = NO_CONTROL
    """What is asked of its caption."""


@dataclass(frozen=True, slots=True)
class Bag:
    """A set of similar images; `ids[0]` is the anchor, the others follow nearest first."""

    ids: tuple[str, ...]
    level: str = "hard"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a caption, and what a reward says of it.

    Raises:
        ValueError: for a part without characters, or a value that is not finite.
    """

    start: int
    """Index of its first character in the caption, from 0."""
    end: int
    """Index after its last character."""
    value: float
    """How good the part is, in any unit of the reward's own: higher is better, and 0 is the value of text in no span."""
    label: str = ""
    """What is said of it in a word or two, such as `contradicted`."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a span needs 0 <= start < end, got {self.start} and {self.end}")
        object.__setattr__(self, "value", _to_float(self.value))
        if not math.isfinite(self.value):
            raise ValueError(f"a span's value must be finite, got {self.value}; leave the span out instead")


@dataclass(frozen=True, slots=True)
class Score:
    """A reward's answer for one caption: a finite value, or an abstention (`value is None`) with its reason.

    An abstention never pushes a caption down: it leaves the caption's other components alone to judge it.
    """

    value: float | None
    reason: str | None = None
    """Why the reward abstained; None where it did not."""
    note: str | None = None
    """Text worth keeping beside the caption (a critique)."""
    spans: tuple[Span, ...] | None = None
    """What the reward says of parts of the caption. None where it judges only the whole; empty where it has nothing to say of any part."""

    def __post_init__(self) -> None:
        if self.value is not None and type(self.value) is not float:
            object.__setattr__(self, "value", _to_float(self.value))
        if self.value is None:
            if not self.reason:
                raise ValueError("an abstention needs a reason: Score.abstain('why')")
        elif not math.isfinite(self.value):
            raise ValueError(f"a score must be finite, got {self.value}; abstain with a reason instead")
        if self.value is None and self.spans is not None:
            raise ValueError("an abstention has no spans: it says nothing of the caption")

    @classmethod
    def abstain(cls, reason: str, note: str | None = None) -> Score:
        """A score without a value."""
        return cls(None, reason, note)

    @property
    def abstained(self) -> bool:
        """Whether the score has no value."""
        return self.value is None


def _to_float(value: Any) -> float:
    """Return a number of any kind (int, NumPy, a tensor of one element) as a float.

    Raises:
        TypeError: The value is no number.
    """
    if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__"):
        raise TypeError(f"a score's value must be a number, got {value!r:.60}")
    return float(value)


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """N captions and what is known of the image each describes. Every sequence has length N.

    Rows of one image stand together, but a reward must not depend on how many there are or in what order they come.
    A caption that says nothing (see `says_something`) becomes "", and a reference that says nothing is left out.
    """

    captions: Sequence[str]
    samples: Sequence[Sample]
    distractor_images: Sequence[tuple[str, ...]] = ()
    """Per row the image paths of its bag at the present curriculum stage, nearest first, without its own image."""
    truncated: Sequence[bool] = ()
    """Per row whether generation stopped at the token limit instead of an end of sequence."""
    written: Sequence[str] = field(init=False, repr=False, compare=False)
    """The captions as they were written, also those that say nothing."""

    def __post_init__(self) -> None:
        n = len(self.captions)
        object.__setattr__(self, "written", self.captions)
        object.__setattr__(self, "captions", [text if says_something(text) else "" for text in self.captions])
        if not all(says_something(text) for sample in self.samples for text in sample.references):
            object.__setattr__(self, "samples", [_without_empty_references(sample) for sample in self.samples])
        for name in ("samples", "distractor_images", "truncated"):
            values = getattr(self, name)
            if name != "samples" and not len(values):
                object.__setattr__(self, name, (((),) if name == "distractor_images" else (False,)) * n)
            elif len(values) != n:
                raise ValueError(f"RewardBatch: {len(values)} {name} for {n} captions")

    def __len__(self) -> int:
        return len(self.captions)


def _without_empty_references(sample: Sample) -> Sample:
    references = tuple(text for text in sample.references if says_something(text))
    return replace(sample, references=references)
