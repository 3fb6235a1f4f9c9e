"""What a cached reply is found by: everything that it depends on, and nothing else."""

import asyncio
import shutil

import pytest
from fake_backends import FakeBackend
from PIL import Image

from rlcap.judge.cache import ReplyCache
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import Verdict
from rlcap.judge.templates import PromptTemplate
from rlcap.types import Sample


class Backend(FakeBackend):
    name, accepts_images, calls = "model-1", True, 0

    def generate(self, content, system_prompt=None, **sampling):
        self.calls += 1
        return Verdict("Good.", (), (), 8).text()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def calls(
    cache, photo, caption="A ball.", prompt="Judge.\n---\n{caption} {references}", references=("a ball",), **options
):
    """How many calls a caption costs: 0 where the reply is known."""
    engine = Backend()
    engine.name = options.pop("model", "model-1")
    file = photo.parent / "prompt.txt"
    file.write_text(prompt)
    grader = Grader(engine, PromptTemplate.read(file), cache, **options)
    asyncio.run(grader.grade([caption], [Sample("any id", str(photo), references=references)]))
    return engine.calls


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"prompt": "Judge well.\n---\n{caption} {references}"},
        {"prompt": "Judge.\n---\n{caption}, {references}"},
        {"model": "model-2"},
        {"sampling": {"temperature": 1.0}},
        {"sampling": {"temperature": 0.5}},
        {"image": False},
        {"caption": "A ball"},
        {"references": ("a bat",)},
    ],
)
def test_whatever_changes_a_reply_asks_anew(photo, change):
    cache = ReplyCache(":memory:")
    assert calls(cache, photo) == 1
    assert calls(cache, photo) == 0
    assert calls(cache, photo, **change) == 1
    assert calls(cache, photo, **change) == 0
    assert calls(cache, photo) == 0


def test_an_image_is_known_by_its_content(photo):
    cache, twin = ReplyCache(":memory:"), photo.parent / "b.png"
    assert calls(cache, photo) == 1
    shutil.copy(photo, twin)
    assert calls(cache, twin) == 0
    Image.new("RGB", (8, 8), "blue").save(twin)
    assert calls(cache, twin) == 1


def test_another_process_finds_the_file(photo):
    path = photo.parent / "replies.sqlite"
    assert calls(ReplyCache(path), photo) == 1
    assert calls(ReplyCache(path), photo) == 0
