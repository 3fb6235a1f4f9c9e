"""The notes of rewards, such as a critique, in a form that people can read."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"<(\w+)>([^<>]*)</\1>")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a note."""

    title: str
    """The heading; "" for running text."""
    lines: tuple[str, ...]
    """Paragraphs of running text, or the items of a list."""
    is_list: bool
    """Whether the lines are items of a list."""


def read_note(note: str) -> list[Section]:
    """Split a note into sections.

    A verdict of a judge (`rlcap.judge.parsing`) consists of `<wrong>…</wrong>` and further sections, whose names become headings.
    The critique itself is running text. Any other note is one section of running text.
    """
    found = list(_SECTION.finditer(note))
    if not found or _SECTION.sub("", note).strip():
        return [Section("", tuple(note.splitlines()), False)]
    return [_read_section(match[1], match[2]) for match in found]


def _read_section(name: str, text: str) -> Section:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    is_list = bool(lines) and all(re.match(r"[-*•] ?\S", line) for line in lines)
    items = tuple(line[1:].strip() for line in lines) if is_list else tuple(lines) or ("none",)
    return Section("" if name == "critique" else name.replace("_", " ").capitalize(), items, is_list)
