"""The fuser: readable replies, the cache, and the ways in which a backend gives none."""

import pytest
from fake_backends import FakeBackend
from fusion import photo

from rlcap.errors import ReplyFormatError
from rlcap.fuse.fuser import Call, Fuser, read_paragraph
from rlcap.judge.backends.base import Completion
from rlcap.judge.config import JudgeConfig
from rlcap.types import Sample


@pytest.mark.parametrize(
    ("reply", "paragraph"),
    [
        ("A dog\nruns.", "A dog runs."),
        ("<think>hm</think>\nA dog.", "A dog."),
        ("```\nA dog.\n```", "A dog."),
        ('"A dog."', "A dog."),
        ("“A dog.”", "A dog."),
        ('"A" and "B"', '"A" and "B"'),
    ],
)
def test_paragraphs_are_read(reply, paragraph):
    assert read_paragraph(reply) == paragraph


def test_a_reply_that_says_nothing_is_refused():
    with pytest.raises(ReplyFormatError):
        read_paragraph("...")
    with pytest.raises(ReplyFormatError, match="holds the tag <caption>"):
        read_paragraph("The caption: <caption> - A dog. (caption)")
    assert read_paragraph("3 < 4 and <3") == "3 < 4 and <3"


class Backend(FakeBackend):
    name = "backend"

    def __init__(self, replies):
        self.replies, self.seen = list(replies), []

    def generate(self, content, system="", **_):
        self.seen.append(content)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def fuser(backend, **options):
    return Fuser(
        JudgeConfig(backend=backend, **{"cache": ":memory:", "retries": 1, "backoff": 0.0, "concurrency": 1, **options})
    )


def call(text, sample=None):
    return Call("system", text, sample or Sample("a", "a.png"))


def test_equal_calls_are_made_once_and_remembered():
    backend = Backend(["one.", "two."])
    asked = fuser(backend)
    assert [one.paragraph for one in asked.write([call("x"), call("y"), call("x")])] == ["one.", "two.", "one."]
    assert [one.paragraph for one in asked.write([call("y")])] == ["two."]
    assert len(backend.seen) == 2
    assert (asked.asked, asked.cached) == (4, 1)


def test_what_may_pass_is_not_final_and_what_will_not_is():
    down = fuser(Backend([ConnectionError("away")] * 2)).write([call("x")])[0]
    assert down.paragraph is None
    assert "away" in down.reason
    assert not down.is_final
    silent = fuser(Backend(["...", "!"])).write([call("x")])[0]
    assert (silent.reason, silent.is_final) == ("unreadable reply of the fuser: the reply says nothing", True)
    cut = fuser(Backend([Completion("", is_cut=True)] * 2)).write([call("x")])[0]
    assert cut.reason.startswith("cut at max_tokens")
    assert cut.is_final


def test_a_spent_budget_is_not_final():
    asked = fuser(Backend([Completion("one.", 50, 50), Completion("two.", 50, 50)]), limits={"tokens": 100.0})
    first, second = asked.write([call("x"), call("y")])
    assert first.paragraph == "one."
    assert "budget" in second.reason
    assert not second.is_final


def test_a_fuser_that_sees_gets_the_image_and_a_broken_image_costs_only_itself(tmp_path):
    class Seeing(Backend):
        accepts_images = True

    backend = Seeing(["seen."])
    asked = Fuser(JudgeConfig(backend=backend, cache=":memory:"), needs_image=True)
    (tmp_path / "bad.png").write_bytes(b"no")
    replies = asked.write(
        [
            call("x", Sample("a", str(photo(tmp_path / "a.png")))),
            call("x", Sample("b", str(tmp_path / "bad.png"))),
            call("x", Sample("c", str(tmp_path / "none.png"))),
        ]
    )
    assert [one.paragraph for one in replies] == ["seen.", None, None]
    assert "not an image" in replies[1].reason
    assert "missing image" in replies[2].reason
    assert backend.seen[0][1].startswith(b"\xff\xd8")
