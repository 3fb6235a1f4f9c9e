"""The objects that a text names, listed by a language model, and reading that list strictly.

    <objects>
    - young boy
    - cup or jug
    - notebook (possibly)
    </objects>

An object with its adjectives a line, in the singular; `or` where the text leaves open which of several it is, `(possibly)`
where it leaves open whether it is there. Anything else is no list: guessing at a broken reply would put the parser's noise
into the reward.
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
"""Objects of one text."""
MAX_NAME_WORDS = 12
"""Words of one object's name."""
_DOUBT = re.compile(r"\s*\(\s*possibly\s*\)\s*$", re.IGNORECASE)
_CHOICE = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+", re.IGNORECASE)
_OR = re.compile(r"\s+or\s+", re.IGNORECASE)
_TAIL = re.compile(r"\s+(?:of|with|in|on|at|from|for|to|by|near|under|over|behind|without)\s.*$")


@dataclass(frozen=True, slots=True)
class ObjectMention:
    """One object of a text."""

    names: tuple[str, ...]
    """What it may be, in lower case; more than one where the text leaves it open."""
    sure: bool = True
    """Whether the text says that it is there."""


def parse_objects(reply: str) -> list[ObjectMention]:
    """The objects in a reply, each once. Raises ReplyFormatError that says what is amiss."""
    (text,) = read_sections(reply, "objects")
    lines = read_list(text)
    if len(lines) > MAX_OBJECTS:
        raise ReplyFormatError(f"{len(lines)} objects, where {MAX_OBJECTS} are the most")
    return list(dict.fromkeys(_named(line) for line in lines))


def _named(line: str) -> ObjectMention:
    if not line.startswith("-"):
        raise ReplyFormatError(f"an object is a line `- young boy`, got {line[:60]!r}")
    text = _DOUBT.sub("", line.removeprefix("-")).strip(" .").lower()
    parts = _CHOICE.split(text) if _OR.search(text) else [text.replace(",", " ")]  # "brown, furry dog" is one dog
    names = tuple(dict.fromkeys(" ".join(name.split()) for name in parts if name.strip()))
    if not names or any(len(name.split()) > MAX_NAME_WORDS or not re.search(r"\w", name) for name in names):
        raise ReplyFormatError(f"an object is named in 1 to {MAX_NAME_WORDS} words, got {line[:60]!r}")
    return ObjectMention(names, _DOUBT.search(line) is None)


def format_objects(objects: Iterable[ObjectMention]) -> str:
    """The list as it is asked for; `parse_objects` reads it back."""
    rows = [f"- {' or '.join(thing.names)}{'' if thing.sure else ' (possibly)'}" for thing in objects]
    return "<objects>\n" + ("\n".join(rows) or "none") + "\n</objects>"


def head_noun(name: str) -> str:
    """A name's noun, by rule: the last word before a preposition; "white shirt" and "shirt with stripes" → "shirt"."""
    return _TAIL.sub("", name).split()[-1]


def collect_known_objects(listed: Sequence[ObjectMention], annotated: Any) -> list[tuple[str, ...]]:
    """The names of what is in an image, an object an entry: what its references name, for certain or not, what the nouns of
    those names are, and the annotated ones (a list of texts; anything else is none)."""
    nouns = [tuple(dict.fromkeys(head_noun(name) for name in thing.names)) for thing in listed]
    marked = [(" ".join(text.split()).lower(),) for text in read_annotated(annotated)]
    return list(dict.fromkeys([*(thing.names for thing in listed), *nouns, *marked]))


def read_annotated(annotated: Any) -> list[str]:
    """The texts of `meta["objects"]` that hold a word; [] where it is no list."""
    rows = annotated if isinstance(annotated, list | tuple) else ()
    return [text for text in rows if isinstance(text, str) and re.search(r"\w", text)]


class ObjectReader(Grader):
    """Reads lists of objects. Its prompt holds the text alone, whatever is known of the image."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption alone."""
        return {"caption": delimit("caption", caption)}

    def has_material(self, sample: Sample) -> bool:
        """Whether there is something to judge by: always, as the text itself is what is read."""
        return True

    def parse(self, reply: str, sample: Sample) -> list[ObjectMention]:
        """Read a list of objects. Raises ReplyFormatError."""
        return parse_objects(reply)
