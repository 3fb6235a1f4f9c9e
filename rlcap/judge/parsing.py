"""A judge's verdict: what it must look like, and reading it strictly.

    <critique>The ball is red, not blue; the dog is left out.</critique>
    <wrong>
    - the ball is blue
    </wrong>
    <missing>
    - a dog behind the ball
    </missing>
    <score>6</score>

The reason comes before the number. Every section must be there once and in this order; a list is `- item` lines or the
word none; the score is a number from 0 to 10. Anything else is no verdict: guessing at a broken reply would put the
parser's noise into the reward.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlcap.errors import ReplyFormatError

SECTIONS = ("critique", "wrong", "missing", "score")
_SCORE = re.compile(r"(\d{1,2}(?:\.\d+)?)(?:\s*/\s*10)?")
_WRAPPING = re.compile(r"\s*(?:<think>.*?</think>)?\s*(?:```\w*\n)?(.*?)(?:```)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found."""

    critique: str
    wrong: tuple[str, ...]
    """Claims of the caption that aren't true of the image."""
    missing: tuple[str, ...]
    """Facts that the caption leaves out."""
    score: float
    """0 (describes something else) … 10 (faithful and complete)."""

    def text(self) -> str:
        """The verdict as it is asked for; `parse(v.text()) == v`."""
        lists = {
            name: "\n".join(f"- {item}" for item in getattr(self, name)) or "none" for name in ("wrong", "missing")
        }
        return (
            f"<critique>{self.critique}</critique>\n<wrong>\n{lists['wrong']}\n</wrong>\n"
            f"<missing>\n{lists['missing']}\n</missing>\n<score>{self.score:g}</score>"
        )


def bare(reply: str) -> str:
    """A reply without a reasoning model's leading <think> block and the code fence around what it was asked for."""
    return _WRAPPING.fullmatch(reply.rstrip())[1].strip()  # no \s* beside .*?: together they take cubic time


def sections(reply: str, *names: str) -> list[str]:
    """What stands in a reply's <name>…</name>, all of them, in this order, once and with nothing around them.

    Raises ReplyFormatError, which names the first section that is missing.
    """
    text = bare(reply)
    found = re.fullmatch(r"\s*".join(rf"<{name}>([^<>]*)</{name}>" for name in names), text)
    if found is None:
        missing = [name for name in names if f"<{name}>" not in text]
        told = (
            f"no <{missing[0]}> section"
            if missing
            else "sections repeated or out of order, text around them, or tags inside"
        )
        raise ReplyFormatError(told)
    return [section.strip() for section in found.groups()]


def parse(reply: str) -> Verdict:
    """The verdict in a reply. Raises ReplyFormatError that says what is amiss."""
    critique, wrong, missing, number = sections(reply, *SECTIONS)
    score = _SCORE.fullmatch(number)
    if score is None or float(score[1]) > 10:
        raise ReplyFormatError(f"the score must be a number from 0 to 10, got {number[:20]!r}")
    return Verdict(critique, _items(wrong, "wrong"), _items(missing, "missing"), float(score[1]))


def _items(text: str, name: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if [line.lower().strip(" .-") for line in lines] in ([], ["none"]):
        return ()
    for line in lines:
        if not re.match(r"[-*•] ?\S", line):
            raise ReplyFormatError(f"<{name}> must list '- item' lines or none, got {line[:60]!r}")
    return tuple(line[1:].strip() for line in lines)
