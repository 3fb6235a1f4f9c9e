"""The fuser: a judge backend that writes a paragraph from statements, with the judge's cache, retries and budget."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlcap.errors import ConfigError, ImageError, ReplyFormatError
from rlcap.io.cache import cache_folder, content_hash
from rlcap.io.images import content_key
from rlcap.judge import event_loop
from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.backends.loading import load_backend
from rlcap.judge.cache import ReplyCache
from rlcap.judge.config import JudgeConfig
from rlcap.judge.grader import image_parts
from rlcap.judge.judge import Judge
from rlcap.judge.parsing import strip_wrapping
from rlcap.judge.usage import UsageStats
from rlcap.types import Sample, says_something

VERSION = "1"
"""Part of the cache key. Raise it when `read_paragraph` changes."""
_TAG = re.compile(r"</?[a-z_]+>")


@dataclass(frozen=True, slots=True)
class Call:
    """One text that the fuser is asked for."""

    system: str
    user: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Reply:
    """A paragraph, or the reason why there is none."""

    paragraph: str | None
    reason: str | None = None
    is_final: bool = True
    """Whether the same call would end in the same way: False where the fuser could not be reached or had no budget."""


def read_paragraph(reply: str) -> str:
    """Return the paragraph in a reply, in one line: without a chain of thought, a code fence or quotes around it.

    Raises:
        ReplyFormatError: The reply says nothing, or has tags: a model that is too small for its task repeats the prompt.
    """
    text = " ".join(strip_wrapping(reply).split())
    if found := _TAG.search(text):
        raise ReplyFormatError(f"the reply holds the tag {found[0]}, as the prompt does")
    for left, right in (('"', '"'), ("“", "”")):
        if len(text) > 1 and text[0] == left and text[-1] == right and left not in text[1:-1]:
            text = text[1:-1].strip()
    if not says_something(text):
        raise ReplyFormatError("the reply says nothing")
    return text


def _problem(reply: str) -> str:
    """Return why a reply can't be read."""
    try:
        read_paragraph(reply)
    except ReplyFormatError as error:
        return str(error)
    return "it was cut"


class Fuser:
    """Asks a backend for paragraphs.

    Args:
        config: The backend, how it is asked, and within which limits.
        needs_image: Whether the backend must see the image.

    Raises:
        ConfigError: The backend is unknown, or can't see the image although it must.
    """

    def __init__(self, config: JudgeConfig, needs_image: bool = False) -> None:
        self.backend = load_backend(config.backend)
        self.sees_image = self.backend.accepts_images and (needs_image if config.image is None else config.image)
        if needs_image and not self.sees_image:
            raise ConfigError(
                f"this preset's fuser must see the image, and {self.backend.name} is not given it: choose a model that sees, such "
                "as {backend: {type: openai, model: …, accepts_images: true}}, or set needs_image=false"
            )
        self.judge = Judge(self.backend, config.retry_policy, config.limits)
        self.sampling = dict(config.sampling)
        self.cache = ReplyCache(config.cache or cache_folder() / "fused.sqlite")
        self.usage, self.cached, self.asked = UsageStats(), 0, 0
        self.on_reply: Callable[[], None] | None = None
        """Called after each reply that can be read, for a progress bar."""

    def write(self, calls: Sequence[Call]) -> list[Reply]:
        """Return the reply to each of N calls; replies that can be read are cached.

        Raises:
            JudgeError: The backend can't work at all.
        """
        replies: dict[int, Reply] = {}
        keys: dict[int, str] = {}
        for i, call in enumerate(calls):
            try:
                keys[i] = self._key(call)
            except ImageError as error:
                replies[i] = Reply(None, str(error))
        known = self.cache.get(list(dict.fromkeys(keys.values())))
        requests: dict[str, JudgeRequest] = {}
        for i, key in keys.items():
            if key in known:
                replies[i] = Reply(read_paragraph(known[key]))
            elif key not in requests:
                try:
                    requests[key] = self._request(calls[i], key)
                except ImageError as error:
                    replies[i] = Reply(None, str(error))
        answers = self._ask(requests)
        self.cached += sum(key in known for key in keys.values())
        self.asked += len(calls)
        return [replies[i] if i in replies else answers[keys[i]] for i in range(len(calls))]

    def _ask(self, requests: dict[str, JudgeRequest]) -> dict[str, Reply]:
        if not requests:
            return {}
        answers, usage = event_loop.run(self.judge.ask(list(requests.values())))
        self.usage = UsageStats.sum([self.usage, usage])
        replies: dict[str, Reply] = {}
        for key, answer in zip(requests, answers, strict=True):
            if answer.parsed is not None:
                replies[key] = Reply(answer.parsed)
            elif answer.reply is not None:
                replies[key] = Reply(None, f"unreadable reply of the fuser: {_problem(answer.reply)}")
            else:
                reason = str(answer.reason)
                replies[key] = Reply(None, reason, is_final=reason.startswith(("refused", "cut at")))
        return replies

    def _key(self, call: Call) -> str:
        reads_sample = self.backend.reads_sample
        meta = json.dumps(dict(call.sample.meta), sort_keys=True, default=str)
        return content_hash(
            version=VERSION,
            model=self.backend.name,
            sampling=self.sampling,
            system=call.system,
            user=call.user,
            image=content_key(call.sample.image) if self.sees_image else None,
            sample=[call.sample.id, meta] if reads_sample else None,
        )

    def _request(self, call: Call, key: str) -> JudgeRequest:
        def parse(reply: str) -> str:
            paragraph = read_paragraph(reply)
            self.cache.put(key, reply)  # at once: a run that is killed in the middle of a batch pays for nothing twice
            if self.on_reply is not None:
                self.on_reply()
            return paragraph

        picture = image_parts(call.sample) if self.sees_image else ()
        return JudgeRequest((call.user, *picture), call.system, call.sample, parse, self.sampling)
