"""The objects that a text names, as a language model lists them, and a strict parser of that list.

    <objects>
    - young boy
    - cup or jug
    - notebook (possibly)
    </objects>

Each line is one object with its adjectives, in the singular. `or` separates the names where the text leaves open which
object it is; `(possibly)` follows where the text leaves open whether the object is there. The parser refuses every
other form, because guessing at a broken reply would add the parser's errors to the reward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import ReplyFormatError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_list, read_sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample

MAX_OBJECTS = 200
"""Largest number of objects of one text."""
MAX_NAME_WORDS = 12
"""Largest number of words in one object's name."""
_DOUBT = re.compile(r"\s*\(\s*possibly\s*\)\s*$", re.IGNORECASE)
_CHOICE = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+", re.IGNORECASE)
_OR = re.compile(r"\s+or\s+", re.IGNORECASE)
_TAIL = re.compile(r"\s+(?:of|with|in|on|at|from|for|to|by|near|under|over|behind|without)\s.*$")


@dataclass(frozen=True, slots=True)
class ObjectMention:
    """One object that a text names."""

    names: tuple[str, ...]
    """What the object may be, in lower case; more than one name where the text leaves it open."""
    sure: bool = True
    """Whether the text says that it is there."""


def parse_objects(reply: str) -> list[ObjectMention]:
    """Return the objects in a reply, each once.

    Raises:
        ReplyFormatError: for a reply of another form; it says what is wrong.
    """
    (text,) = read_sections(reply, "objects")
    lines = read_list(text)
    if len(lines) > MAX_OBJECTS:
        raise ReplyFormatError(f"{len(lines)} objects, but at most {MAX_OBJECTS} are allowed")
    return list(dict.fromkeys(_parse_line(line) for line in lines))


def _parse_line(line: str) -> ObjectMention:
    if not line.startswith("-"):
        raise ReplyFormatError(f"an object must be a line such as `- young boy`, got {line[:60]!r}")
    text = _DOUBT.sub("", line.removeprefix("-")).strip(" .").lower()
    parts = _CHOICE.split(text) if _OR.search(text) else [text.replace(",", " ")]  # "brown, furry dog" is one dog
    names = tuple(dict.fromkeys(" ".join(name.split()) for name in parts if name.strip()))
    if not names or any(len(name.split()) > MAX_NAME_WORDS or not re.search(r"\w", name) for name in names):
        raise ReplyFormatError(f"an object's name must have 1 to {MAX_NAME_WORDS} words, got {line[:60]!r}")
    return ObjectMention(names, _DOUBT.search(line) is None)


def format_objects(objects: Iterable[ObjectMention]) -> str:
    """Return the list in the form that the judge is asked for; `parse_objects` reads it back."""
    rows = [f"- {' or '.join(thing.names)}{'' if thing.sure else ' (possibly)'}" for thing in objects]
    return "<objects>\n" + ("\n".join(rows) or "none") + "\n</objects>"


def head_noun(name: str) -> str:
    """Return the noun of a name by a rule: the last word before a preposition.

    "white shirt" and "shirt with stripes" both give "shirt".
    """
    return _TAIL.sub("", name).split()[-1]


def collect_known_objects(listed: Sequence[ObjectMention], annotated: Any) -> list[tuple[str, ...]]:
    """Return the names of what is in an image, one tuple for each object.

    Args:
        listed: the objects that the references name, for certain or not. Each counts by its names and once more by
            their bare nouns.
        annotated: `meta["objects"]`: a list of texts; anything else counts as none.
    """
    nouns = [tuple(dict.fromkeys(head_noun(name) for name in thing.names)) for thing in listed]
    annotations = [(" ".join(text.split()).lower(),) for text in read_annotated(annotated)]
    return list(dict.fromkeys([*(thing.names for thing in listed), *nouns, *annotations]))


def read_annotated(annotated: Any) -> list[str]:
    """Return the texts of `meta["objects"]` that hold a word; [] where it is no list."""
    rows = annotated if isinstance(annotated, list | tuple) else ()
    return [text for text in rows if isinstance(text, str) and re.search(r"\w", text)]


class ObjectReader(Grader):
    """Reads lists of objects. Its prompt holds the text alone, even where more is known about the image."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption alone."""
        return {"caption": delimit("caption", caption)}

    def has_material(self, sample: Sample) -> bool:
        """Return True: the text itself is all that is needed."""
        return True

    def parse(self, reply: str, sample: Sample) -> list[ObjectMention]:
        """Read a list of objects.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        return parse_objects(reply)
