"""Reading judges' replies strictly.

Anything that lacks the required form is refused with `ReplyFormatError`, and the caption abstains: guessing at a broken reply would put
the parser's noise into the reward. What a particular reward expects stands beside its prompt; here is what the parsers share, and the
verdict of a critique:

    <critique>The ball is red, not blue; the dog is left out.</critique>
    <wrong>
    - the ball is blue
    </wrong>
    <missing>
    - a dog behind the ball
    </missing>
    <score>6</score>

The reason comes before the number. Every section appears once and in this order; a list is `- item` lines or the word none; the score is
a number from 0 to 10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError

SECTIONS = ("critique", "wrong", "missing", "score")
_SCORE = re.compile(r"(\d{1,2}(?:\.\d+)?)(?:\s*/\s*10)?")
_WRAPPING = re.compile(r"\s*(?:```\w*\n)?(.*?)(?:```)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's verdict on a caption."""

    critique: str
    """What should change, in words."""
    wrong: tuple[str, ...]
    """Claims of the caption that are not true of the image."""
    missing: tuple[str, ...]
    """Facts that the caption leaves out."""
    score: float
    """From 0 (describes something else) to 10 (faithful and complete)."""

    def text(self) -> str:
        """Return the verdict in the form in which it is asked for; `parse_verdict(v.text()) == v`."""
        lists = {
            name: "\n".join(f"- {item}" for item in items) or "none"
            for name, items in (("wrong", self.wrong), ("missing", self.missing))
        }
        return (
            f"<critique>{self.critique}</critique>\n<wrong>\n{lists['wrong']}\n</wrong>\n"
            f"<missing>\n{lists['missing']}\n</missing>\n<score>{self.score:g}</score>"
        )


def strip_wrapping(reply: str) -> str:
    """Return a reply without a reasoning model's chain of thought and without the code fence around it.

    The chain of thought ends at the last </think>. Its <think> may be missing: some chat templates put it into the prompt.
    """
    start = reply.lstrip()
    if start.startswith(("<think>", "</think>")) or not start.startswith(
        ("<", "`")
    ):  # a reply that begins with its answer has no thoughts
        reply = reply.rpartition("</think>")[2]
    wrapped = _WRAPPING.fullmatch(reply.rstrip())  # no \s* beside .*?: together they would take cubic time
    return wrapped[1].strip() if wrapped is not None else reply.strip()


def read_sections(reply: str, *names: str) -> list[str]:
    """Return the contents of a reply's <name>…</name> sections: all of them, in this order, each once, and nothing around them.

    Raises:
        ReplyFormatError: for any other reply; it names the first section that is missing.
    """
    text = strip_wrapping(reply)
    match = re.fullmatch(r"\s*".join(rf"<{name}>([^<>]*)</{name}>" for name in names), text)
    if match is None:
        missing = [name for name in names if f"<{name}>" not in text]
        raise ReplyFormatError(
            f"no <{missing[0]}> section"
            if missing
            else "sections repeated or out of order, text around them, or tags inside"
        )
    return [section.strip() for section in match.groups()]


def read_list(section: str) -> list[str]:
    """Return the lines of a section that holds a list; [] for an empty section or the word none."""
    lines = [line.strip() for line in section.splitlines() if line.strip()]
    return [] if [line.lower().strip(" .-") for line in lines] in ([], ["none"]) else lines


def parse_verdict(reply: str) -> Verdict:
    """Return the verdict in a reply.

    Raises:
        ReplyFormatError: for any other reply; it says what is wrong with it.
    """
    critique, wrong, missing, number = read_sections(reply, *SECTIONS)
    score = _SCORE.fullmatch(number)
    if score is None or float(score[1]) > 10:
        raise ReplyFormatError(f"the score must be a number from 0 to 10, got {number[:20]!r}")
    return Verdict(critique, _items(wrong, "wrong"), _items(missing, "missing"), float(score[1]))


def _items(section: str, name: str) -> tuple[str, ...]:
    lines = read_list(section)
    for line in lines:
        if not re.match(r"[-*•] ?\S", line):
            raise ReplyFormatError(f"<{name}> must list '- item' lines or none, got {line[:60]!r}")
    return tuple(line[1:].strip() for line in lines)
