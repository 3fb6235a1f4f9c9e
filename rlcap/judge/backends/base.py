"""What a judge's backend is: something that completes a prompt.

A backend of your own is a class with a name and one coroutine:

    class MyServer(JudgeBackend):
        name = "my-server:model-7b"

        async def complete(self, request: JudgeRequest) -> Completion:
            text = await my_client.ask(request.system, request.text, timeout=request.timeout)
            return Completion(text)

A configuration names it by its dotted path (`judge: my_module:MyServer`, or `judge: {backend: {type: my_module:MyServer, …}}` with
parameters of its constructor). Timeouts, retries, rate limits, budgets and the cache are the judge's (`rlcap.judge.judge`): a backend
only asks once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from rlcap.types import Sample

IMAGE_TOKENS = 800
"""Estimated tokens of an image, about what a provider counts for one of 1024 × 1024 pixels."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One call to a judge.

    The request carries the sample that the caption belongs to. A language model has no use for it; an oracle of a simulated world
    reads the truth from `sample.meta`.
    """

    parts: tuple[str | bytes, ...]
    """The user's message: texts, and images as JPEG or PNG bytes, in the order in which they are shown."""
    system: str
    """The system message."""
    sample: Sample
    """The sample that the request is about."""
    parse: Callable[[str], Any] | None = None
    """Reads a reply, and raises ReplyFormatError for one that lacks the required form. Such a request is made once more."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Parameters for the model, such as {temperature: 0.7}."""
    timeout: float = 60.0
    """Seconds after which nobody waits for the reply any more."""

    @property
    def text(self) -> str:
        """The texts of the user's message, without the images."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Completion:
    """A backend's reply, with its bill as far as the backend knows it."""

    text: str
    prompt_tokens: int | None = None
    """Tokens of the request; None where the backend does not count."""
    completion_tokens: int | None = None
    """Tokens of the reply; None where the backend does not count."""
    dollars: float | None = None
    """Price of the call; None where the backend does not know it."""
    is_cut: bool = False
    """Whether the reply ended because it reached the token limit."""


@runtime_checkable
class JudgeBackend(Protocol):
    """Completes prompts. A subclass inherits the defaults of all attributes but `name`."""

    name: str
    """Identifies the model and everything else that changes its replies. It is part of the cache key."""
    accepts_images: bool = False
    """Whether a request may hold images."""
    reads_sample: bool = False
    """Whether replies depend on `request.sample.meta` (an oracle does this), which then is part of the cache key."""
    is_deterministic: bool = False
    """Whether the same request always gets the same reply, so that an unreadable reply is not asked for again."""
    address: str | None = None
    """Address of the server that is asked, without credentials; None for a backend that asks none."""
    max_tokens: int | None = None
    """Longest reply in tokens, as far as the backend sets it."""
    max_concurrency: int | None = None
    """How many calls may run at once; None for no limit of the backend's own."""

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request.

        Any exception is allowed. The judge retries what may pass (connection errors, timeouts, HTTP 408, 409, 425, 429 and 5xx), and
        stops the run for the rest; see `rlcap.judge.failures`.
        """
        ...


def estimate_tokens(parts: str | Sequence[str | bytes]) -> int:
    """Estimate the tokens of a text or of a request's parts: four characters a token, `IMAGE_TOKENS` an image."""
    parts = [parts] if isinstance(parts, str) else parts
    return sum(math.ceil(len(part) / 4) if isinstance(part, str) else IMAGE_TOKENS for part in parts)
