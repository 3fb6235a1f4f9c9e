"""What may stand around a reply, and what may not."""

import pytest

from rlcap.errors import ReplyFormatError
from rlcap.judge.parsing import read_sections, strip_wrapping

ASKED = "<reason>because</reason>\n<better>first</better>"


@pytest.mark.parametrize(
    "reply",
    [
        ASKED,
        f"\n  {ASKED}\n",
        f"```\n{ASKED}\n```",
        f"```xml\n{ASKED}```",
        f"<think>The <better>second</better>?</think>\n\n```\n{ASKED}\n```\n",
    ],
)
def test_thoughts_and_a_fence_are_let_through(reply):
    assert strip_wrapping(reply) == ASKED
    assert read_sections(reply, "reason", "better") == ["because", "first"]


def test_no_reply_takes_long():
    gap = " \n" * 20_000
    assert read_sections(f"{gap}<reason>{gap}x</reason>{gap}<better>first</better>{gap}", "reason", "better") == [
        "x",
        "first",
    ]
    for reply in (gap, f"<reason>{gap}", f"{gap}```{gap}<reason>x</reason>{gap}```{gap}```"):
        with pytest.raises(ReplyFormatError):
            read_sections(reply, "reason", "better")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "no <reason> section"),
        ("<reason>x</reason>", "no <better> section"),
        (f"Sure! {ASKED}", "text around"),
        (f"{ASKED} <think>no</think>", "text around"),
        (f"{ASKED}\n{ASKED}", "repeated"),
        ("<better>first</better>\n<reason>x</reason>", "out of order"),
        ("<reason>x <better>second</better></reason><better>first</better>", "tags inside"),
        (f"<think>unfinished {ASKED}", "text around"),
    ],
)
def test_anything_else_is_none(reply, message):
    with pytest.raises(ReplyFormatError, match=message):
        read_sections(reply, "reason", "better")
