"""A statement: one thing that an expert says of an image.

    Statement("a red bus", "object", score=0.93, box=Box(0.1, 0.2, 0.6, 0.9))

The names of experts are added when the experts run (`rlcap.experts.running`), so that an expert does not need to know its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rlcap.judge.image_crops import Box
from rlcap.types import says_something

Kind = Literal["object", "tag", "attribute", "text", "caption", "region", "reference", "alt_text"]
"""What a statement is: the name of an object with a box, a tag of the whole image, a phrase about a box, text that is written in the
image, a caption of the whole image by a model, a caption of a box, a caption by a person, or the alternative text of a web page."""
KINDS = get_args(Kind)
PROSE = ("caption", "region", "reference", "alt_text")
"""Kinds whose texts are sentences. The texts of the others are names and phrases."""
DIGITS = 4
"""Decimals of scores and boxes. A last bit that differs between machines does not change a file."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that an expert says of an image.

    Raises:
        ValueError: The text says nothing, the kind is unknown, the score is not finite, or the box is none.
    """

    text: str
    """The statement in one line: a name, a phrase or a caption."""
    kind: Kind
    source: str = ""
    """The expert's name in the preset."""
    score: float | None = None
    """The expert's confidence, higher is surer; None where the expert has none."""
    box: Box | None = None
    """The part of the image that the statement is about, as shares of width and height; None for the whole image."""

    def __post_init__(self) -> None:
        if not says_something(self.text):
            raise ValueError(
                f"a statement needs a text with a letter or a digit, got {self.text!r}; leave it out instead"
            )
        if self.kind not in KINDS:
            raise ValueError(f"a statement's kind is one of {', '.join(KINDS)}, got {self.kind!r}")
        object.__setattr__(self, "text", " ".join(self.text.split()))
        if self.score is not None:
            if not math.isfinite(self.score):
                raise ValueError(f"a statement's score must be finite, got {self.score}; leave it out instead")
            object.__setattr__(self, "score", round(float(self.score), DIGITS))
        if self.box is not None:
            box = Box(*(round(float(side), DIGITS) for side in self.box))
            if not (0 <= box.left <= box.right <= 1 and 0 <= box.top <= box.bottom <= 1):
                raise ValueError(f"a box is left, top, right, bottom as shares in [0, 1], got {self.box}")
            object.__setattr__(self, "box", box)

    def sentence(self) -> str:
        """Return the statement as a sentence, for a model that compares sentences: "dog" → "There is a dog."."""
        if self.kind in PROSE:
            return self.text
        if self.kind == "text":
            return f'The text "{self.text}" is written in the image.'
        first = self.text.split()[0].lower()
        if first in ("a", "an", "the", "there", "two", "three", "four", "five"):
            return self.text if self.text.endswith(".") else f"There is {self.text}."
        return f"There is {'an' if first[0] in 'aeiou' else 'a'} {self.text}."

    def to_json(self) -> dict[str, Any]:
        """Return the statement as a mapping of JSON values, without what is not there."""
        row: dict[str, Any] = {"text": self.text, "kind": self.kind, "source": self.source}
        if self.score is not None:
            row["score"] = self.score
        if self.box is not None:
            row["box"] = list(self.box)
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Statement:
        """Return the statement that `to_json` stored."""
        box = row.get("box")
        return cls(row["text"], row["kind"], row.get("source", ""), row.get("score"), Box(*box) if box else None)
