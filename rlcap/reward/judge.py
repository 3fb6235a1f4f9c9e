"""Asking a judge: bounded concurrency, a timeout a call, retries, and an answer that says why there is none.

An engine is textgrad's `EngineLM` protocol, by duck typing:

    engine.generate(content, system_prompt=None, **sampling) -> str      content: a str, or a list of str and image bytes
    engine.model_string                                                  goes into the cache key
    engine.is_multimodal        (default False)   whether image bytes may be given
    engine.max_concurrency      (default: any)    1 for a model in this process
    engine.accepts_sample       (default False)   whether `generate(..., sample=Sample)` is understood (a simulated judge)

textgrad's own call path is not used: its cache key is salted per process, its multimodal check knows seven model names,
its LiteLLM engine drops the sampling parameters, and its backward prompts show only the ends of a long caption.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.types import Sample

_JITTER = random.Random()  # its own: retries must not move the run's random state


class JudgeError(RuntimeError):
    """The engine can't work at all (a refused key, an unknown model, a bug): retrying or abstaining would hide it."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call."""

    content: str | list[str | bytes]
    system: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply, or None with the reason why there is none."""

    reply: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often to try."""

    timeout: float = 60.0
    """Seconds a call may take. Waiting for a free place doesn't count."""
    retries: int = 3
    """Further calls after a transient failure."""
    backoff: float = 1.0
    """Seconds before the first retry; doubles each time, times a random factor in [.5, 1.5]."""
    concurrency: int = 8
    """Calls under way at once."""

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0 or self.backoff < 0 or self.concurrency < 1:
            raise ValueError(f"timeout > 0, retries >= 0, backoff >= 0 and concurrency >= 1, got {self}")


async def ask(
    engine: Any, questions: Sequence[Question], sampling: Mapping[str, Any], patience: Patience
) -> list[Answer]:
    """All answers, in the questions' order.

    Transient failures (connection, timeout, 408, 409, 429, 5xx) are retried and then answered with a reason; so are
    requests that the provider refuses (400, 413, 422: a content filter, too long an input), without a retry.
    Raises JudgeError, with secrets blacked out, for everything else.
    """
    places = asyncio.Semaphore(min(patience.concurrency, getattr(engine, "max_concurrency", None) or 10**6))

    async def one(question: Question) -> Answer:
        reason = ""
        for attempt in range(patience.retries + 1):
            if attempt:
                await asyncio.sleep(patience.backoff * 2 ** (attempt - 1) * _JITTER.uniform(0.5, 1.5))
            async with places:
                try:
                    reply = await asyncio.wait_for(_in_thread(engine, question, sampling), patience.timeout)
                except TimeoutError:
                    reason = f"timeout after {patience.timeout:g} s"
                    continue
                except Exception as error:
                    error = root(error)
                    kind, reason = classify(error), f"{type(error).__name__}: {redact(str(error))[:200]}"
                    if kind == "fatal":
                        raise JudgeError(f"judge {engine.model_string}: {reason}") from None  # its text may hold a key
                    if kind == "refused":
                        return Answer(None, f"refused: {reason}")
                    continue
            return Answer(reply) if isinstance(reply, str) and reply.strip() else Answer(None, "empty reply")
        return Answer(None, f"{reason} ({patience.retries + 1} attempts)")

    return list(await asyncio.gather(*(one(question) for question in questions)))


def root(error: BaseException) -> BaseException:
    """The failure itself, out of tenacity's RetryError in which textgrad's engines wrap it."""
    attempt = getattr(error, "last_attempt", None)
    inner = attempt.exception() if attempt is not None else None
    return error if inner is None else root(inner)


def classify(error: BaseException) -> str:
    """`transient`, `refused` (this request only) or `fatal`."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int):
        if status in (408, 409, 425, 429) or status >= 500:
            return "transient"
        return "refused" if status in (400, 413, 422) else "fatal"
    if isinstance(error, ConnectionError | TimeoutError):
        return "transient"
    # httpx, openai and litellm each have their own classes; they agree on these words.
    return "transient" if re.search(r"Timeout|Connect|RateLimit|Unavailable", type(error).__name__) else "fatal"


def redact(text: str) -> str:
    """The text with keys blacked out: those of the environment, and whatever looks like one."""
    for name, value in os.environ.items():
        if re.search(r"KEY|TOKEN|SECRET|PASSWORD", name) and len(value) >= 8:
            text = text.replace(value, "***")
    text = re.sub(r"(?i)\b(bearer|api[-_ ]?key\S*?)([:=\s]+)['\"]?[\w.*-]{8,}", r"\1\2***", text)
    return re.sub(r"\b(?:sk|pk|rk|hf|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{20,}", "***", text)


async def _in_thread(engine: Any, question: Question, sampling: Mapping[str, Any]) -> Any:
    """The engine's blocking call in a daemon thread: a call that hangs must block neither the loop nor the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(result)

    def call() -> None:
        extra = {"sample": question.sample} if getattr(engine, "accepts_sample", False) else {}
        result, failure = None, None
        try:
            result = engine.generate(question.content, system_prompt=question.system, **sampling, **extra)
        except Exception as error:  # carried to the loop, where `ask` sorts it
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits for this call any more
            return

    threading.Thread(target=call, name="rlcap-judge", daemon=True).start()
    return await future
