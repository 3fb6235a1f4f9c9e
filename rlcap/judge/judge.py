"""Asking a judge: bounded concurrency, a timeout a call, retries, limits, and an answer that says why there is none.

An engine is textgrad's `EngineLM` protocol, by duck typing:

    engine.generate(content, system_prompt=None, **sampling) -> str      content: a str, or a list of str and image bytes;
                                                  a `rlcap.judge.budget.Reply` is a str that says what it cost
    engine.model_string                                                  goes into the cache key
    engine.is_multimodal        (default False)   whether image bytes may be given
    engine.max_concurrency      (default: any)    1 for a model in this process
    engine.instant              (default False)   whether it is a rule, done in a millisecond: it is called where it is asked,
                                                  without a thread and a timeout, which cost more than the call
    engine.accepts_sample       (default False)   whether `generate(..., sample=Sample)` is understood (a simulated judge)
    engine.accepts_timeout      (default False)   whether `generate(..., timeout=seconds)` is understood
    engine.repeatable           (default False)   whether the same question always gets the same reply

textgrad's own call path is not used: its cache key is salted per process, its multimodal check knows seven model names,
its LiteLLM engine drops the sampling parameters, and its backward prompts show only the ends of a long caption.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import ConfigError, JudgeError, ReplyFormatError
from rlcap.judge.budget import Budget, Reply, estimate
from rlcap.judge.circuit_breaker import CircuitBreaker
from rlcap.judge.failures import classify, fix, keys, redact, retry_after, root, tell
from rlcap.judge.limits import Limits
from rlcap.judge.rate_limit import RateLimit
from rlcap.judge.usage import UsageStats
from rlcap.types import Sample

LONGEST_PAUSE = 60.0
"""Seconds between two attempts at most, whatever the server asks for."""

_JITTER = random.Random()  # its own: retries must not move the run's random state


@dataclass(frozen=True, slots=True)
class Question:
    """One call."""

    content: str | list[str | bytes]
    system: str
    sample: Sample
    check: Callable[[str], Any] | None = None
    """Raises ReplyFormatError for a reply that is none; the question is put once more then."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply (its last attempt may be unreadable), or None with the reason why there is none."""

    reply: str | None
    reason: str | None = None
    read: Any = None
    """What the question's check made of the reply."""


def places(engine: Any, retry_policy: RetryPolicy) -> int:
    """How many calls of an engine may be under way at once."""
    if getattr(engine, "instant", False):
        return 1
    return min(retry_policy.concurrency, getattr(engine, "max_concurrency", None) or retry_policy.concurrency)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
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
            raise ConfigError(f"timeout > 0, retries >= 0, backoff >= 0 and concurrency >= 1, got {self}")


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What came of one call. kind: fine, unreadable, refused, or the failures that may pass: transient, busy."""

    kind: str
    reply: str | None = None
    reason: str | None = None
    read: Any = None
    pause: float = 0.0
    """Seconds that the server wants to be left alone."""


class Judge:
    """An engine with patience and limits, and what it has cost. One event loop at a time asks it.

    clock: seconds, monotonic. sleep: a coroutine function of seconds.
    """

    def __init__(
        self,
        engine: Any,
        retry_policy: RetryPolicy | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.engine, self.retry_policy = engine, retry_policy or RetryPolicy()
        self.limits = (limits or Limits()).of_this_process()
        self.circuit_breaker = CircuitBreaker(self.limits.failures, self.limits.cool_down, clock)
        self.budget = Budget(self.limits.dollars, self.limits.tokens)
        self.tally = UsageStats()
        """Of the batch asked last."""
        self._requests = RateLimit(self.limits.requests_per_minute, clock)
        self._tokens = RateLimit(self.limits.tokens_per_minute, clock)
        self._clock, self._sleep = clock, sleep
        self._fatal: JudgeError | None = None
        self._keys: list[str] = []

    async def ask(self, questions: Sequence[Question], sampling: Mapping[str, Any]) -> list[Answer]:
        """All answers, in the questions' order.

        Failures that may pass (connection, timeout, 408, 409, 425, 429, 5xx, what no client can read) are retried and then
        answered with a reason. So are, without a retry, requests that the provider refuses for their content (a filter,
        too long an input) and questions that a limit forbids. A reply that fails its question's check gets one more
        attempt, and is then returned as it is. Raises JudgeError for everything else (400, 401, 403, a bug).
        """
        self.tally, self._fatal, self._keys = UsageStats(), None, keys()
        self.budget.begin()
        free = asyncio.Semaphore(places(self.engine, self.retry_policy))
        tasks = [asyncio.ensure_future(self._answer(question, sampling, free)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # where one has raised, the others end
                task.cancel()
            self.budget.end()

    async def _answer(self, question: Question, sampling: Mapping[str, Any], free: asyncio.Semaphore) -> Answer:
        again = 0 if getattr(self.engine, "repeatable", False) else 1  # attempts left for a reply that can't be read
        found = _Attempt("transient")
        for number in range(self.retry_policy.retries + 1):
            if number:
                backoff = self.retry_policy.backoff * 2 ** (number - 1) * _JITTER.uniform(0.5, 1.5)
                await self._sleep(min(max(backoff, found.pause), LONGEST_PAUSE))
            async with free:
                if self._fatal is not None:
                    raise self._fatal
                forbidden = self.budget.exhausted or self.circuit_breaker.refusal()
                if forbidden:
                    return Answer(None, forbidden)
                self.tally.retries += number > 0
                found = await self._attempt(question, sampling)
            self.tally.failures += found.kind != "fine"
            if found.kind in ("fine", "refused"):
                return Answer(found.reply, found.reason, found.read)
            if found.kind == "unreadable":
                again -= 1
                if again < 0:
                    break
        if found.kind == "unreadable":
            return Answer(found.reply, found.reason)
        return Answer(None, f"{found.reason} ({self.retry_policy.retries + 1} attempts)")

    async def _attempt(self, question: Question, sampling: Mapping[str, Any]) -> _Attempt:
        parts = [question.content] if isinstance(question.content, str) else question.content
        asked = estimate([question.system, *parts])
        wait = max(self._requests.take(1), self._tokens.take(asked))
        if wait:
            await self._sleep(wait)
        if getattr(self.engine, "accepts_timeout", False):
            sampling = {
                **sampling,
                "timeout": self.retry_policy.timeout,
            }  # so that a call given up ends on its own side too
        start = self._clock()
        self.tally.calls += 1
        try:
            if getattr(self.engine, "instant", False):
                reply = _call(self.engine, question, sampling)
            else:
                reply = await asyncio.wait_for(_in_thread(self.engine, question, sampling), self.retry_policy.timeout)
        except TimeoutError:
            return self._failed(_Attempt("transient", reason=f"timeout after {self.retry_policy.timeout:g} s"))
        except Exception as error:
            return self._failed(self._sorted(root(error)))
        finally:
            self.tally.seconds.append(self._clock() - start)
        self.circuit_breaker.succeeded()
        if not isinstance(reply, str) or not reply.strip():
            return _Attempt("unreadable", reason="empty reply")
        self._pay(reply, asked)
        text = redact(reply, self._keys)  # a server may echo what it was sent
        try:
            read = question.check(text) if question.check is not None else None
        except ReplyFormatError:
            return _Attempt("unreadable", text)
        return _Attempt("fine", text, read=read)

    def _failed(self, attempt: _Attempt) -> _Attempt:
        if attempt.kind == "transient":
            self.circuit_breaker.failed(str(attempt.reason))
        return attempt

    def _sorted(self, error: BaseException) -> _Attempt:
        kind = classify(error)
        if kind == "fatal":  # from None: the cause's text may hold a key
            raise self._error(f"{tell(error)}{fix(error)}") from None
        reason = f"refused: {tell(error)}" if kind == "refused" else tell(error)
        return _Attempt(kind, reason=reason, pause=retry_after(error))

    def _pay(self, reply: str, asked: int) -> None:
        read, written, dollars = asked, estimate(reply), None
        if isinstance(reply, Reply):
            read, written, dollars = reply.read, reply.written, reply.dollars
        if self.limits.prices is not None:
            dollars = (read * self.limits.prices[0] + written * self.limits.prices[1]) / 1e6
        if dollars is None and self.limits.dollars is not None:
            raise self._error(
                "limits.dollars can't be kept, as nobody knows what a reply costs; give limits.prices: [dollars per million "
                "tokens read, written]"
            )
        self._tokens.settle(read + written - asked)
        self.budget.pay(read + written, dollars or 0.0)
        self.tally.tokens += read + written
        self.tally.dollars += dollars or 0.0

    def _error(self, text: str) -> JudgeError:
        self._fatal = JudgeError(redact(f"judge {self.engine.model_string}: {text}"))
        return self._fatal


def _call(engine: Any, question: Question, sampling: Mapping[str, Any]) -> Any:
    extra = {"sample": question.sample} if getattr(engine, "accepts_sample", False) else {}
    return engine.generate(question.content, system_prompt=question.system, **sampling, **extra)


async def _in_thread(engine: Any, question: Question, sampling: Mapping[str, Any]) -> Any:
    """The engine's blocking call in a daemon thread: a call that hangs must block neither the loop nor the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(result)

    def call() -> None:
        result, failure = None, None
        try:
            result = _call(engine, question, sampling)
        except Exception as error:  # carried to the loop, where `ask` sorts it
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits for this call any more
            return

    _THREADS.run(call)
    return await future


class _Threads:
    """Daemon threads that are used again: starting one takes longer than many a call. One that hangs is not waited for; the
    next call finds another."""

    def __init__(self) -> None:
        self._idle: deque[queue.SimpleQueue[Callable[[], None]]] = deque()
        self._process = os.getpid()

    def run(self, call: Callable[[], None]) -> None:
        if self._process != os.getpid():  # a fork takes no threads along
            self.__init__()
        try:
            mail = self._idle.pop()
        except IndexError:
            mail = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(mail,), name="rlcap-judge", daemon=True).start()
        mail.put(call)

    def _work(self, mail: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            mail.get()()
            self._idle.append(mail)


_THREADS = _Threads()
