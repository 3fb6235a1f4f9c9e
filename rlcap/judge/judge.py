"""Asking a judge: bounded concurrency, a timeout for each call, retries, limits, and an answer that says why there is none.

    judge = Judge(load_backend("openai:gpt-4o-mini"), RetryPolicy(timeout=30), JudgeLimits(dollars=5))
    answers, usage = await judge.ask(requests)

The way of one call: a reward builds requests (`rlcap.reward.judge_reward`), a grader looks them up in the cache and parses the replies
(`rlcap.judge.grader`), this file decides when and how often to ask, and a backend asks (`rlcap.judge.backends`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rlcap.errors import ConfigError, JudgeError, ReplyFormatError, ServerReplyError
from rlcap.io.text import make_encodable
from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest, estimate_tokens
from rlcap.judge.connections import proxy_hint
from rlcap.judge.failures import (
    classify,
    describe,
    redact,
    remedy,
    retry_after,
    root_cause,
    secrets_of_environment,
    status_of,
)
from rlcap.judge.limits import Budget, CircuitBreaker, JudgeLimits, RateLimit
from rlcap.judge.usage import UsageStats

MAX_REPLY_CHARACTERS = 400_000
"""Longest reply that is read. Parsers take time that grows with the length, and no verdict is that long."""
LONGEST_PAUSE = 60.0
"""Most seconds between two attempts, whatever the server asks for."""

_JITTER = random.Random()  # its own generator: retries must not move the run's random state


@dataclass(frozen=True, slots=True)
class JudgeAnswer:
    """The answer to one request: a reply, or the reason why there is none."""

    reply: str | None
    """The reply. It may be unreadable: then `parsed` is None although the request has a parser."""
    reason: str | None = None
    """Why there is no reply."""
    parsed: Any = None
    """What the request's parser made of the reply."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try one request."""

    timeout: float = 60.0
    """Seconds that a call may take. Waiting for a free place does not count."""
    retries: int = 3
    """Further calls after a failure that may pass."""
    backoff: float = 1.0
    """Seconds before the first retry. They double each time and are multiplied by a random factor in [0.5, 1.5]."""
    concurrency: int = 8
    """Calls under way at once."""

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0 or self.backoff < 0 or self.concurrency < 1:
            raise ConfigError(f"timeout > 0, retries >= 0, backoff >= 0 and concurrency >= 1, got {self}")

    def places(self, backend: JudgeBackend) -> int:
        """Return how many calls of a backend may be under way at once."""
        return min(self.concurrency, backend.max_concurrency or self.concurrency)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The outcome of one call."""

    kind: Literal["answered", "unreadable", "refused", "transient", "busy"]
    reply: str | None = None
    reason: str | None = None
    parsed: Any = None
    pause: float = 0.0
    """Seconds for which the server wants to be left alone."""


@dataclass(slots=True)
class _Batch:
    """What the requests of one `ask` share."""

    free: asyncio.Semaphore
    secrets: list[str]
    usage: UsageStats = field(default_factory=UsageStats)
    fatal: JudgeError | None = None


class Judge:
    """A backend with a retry policy and limits.

    Args:
        backend: what answers.
        retry_policy: timeouts, retries and concurrency.
        limits: rates and budget of the whole run, of which this process takes its share.
        clock: returns monotonic seconds.
        sleep: coroutine function that waits for some seconds.
    """

    def __init__(
        self,
        backend: JudgeBackend,
        retry_policy: RetryPolicy | None = None,
        limits: JudgeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.backend, self.retry_policy = backend, retry_policy or RetryPolicy()
        self.limits = (limits or JudgeLimits()).share_of_process()
        self.circuit_breaker = CircuitBreaker(self.limits.failures, self.limits.cool_down, clock)
        self.budget = Budget(self.limits.dollars, self.limits.tokens)
        self._request_rate = RateLimit(self.limits.requests_per_minute, clock)
        self._token_rate = RateLimit(self.limits.tokens_per_minute, clock)
        self._clock, self._sleep = clock, sleep

    async def ask(self, requests: Sequence[JudgeRequest]) -> tuple[list[JudgeAnswer], UsageStats]:
        """Answer all requests, in their order, and say what it took.

        Failures that may pass (connection, timeout, HTTP 408, 409, 425, 429 and 5xx, replies that no client can read) are retried and
        then answered with a reason. So are, without a retry, requests that the provider refuses for their content (a filter, too
        long an input) and requests that a limit forbids. A reply that the request's parser refuses gets one more attempt, unless the
        backend is deterministic, and is then returned as it is.

        Raises:
            JudgeError: for every other failure (HTTP 400, 401, 403, a bug), as neither a retry nor an abstention would help.
        """
        batch = _Batch(asyncio.Semaphore(self.retry_policy.places(self.backend)), secrets_of_environment())
        self.budget.begin_batch()
        tasks = [asyncio.ensure_future(self._answer(request, batch)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks)), batch.usage
        finally:
            for task in tasks:  # where one raised, the others end
                task.cancel()
            self.budget.end_batch()

    async def _answer(self, request: JudgeRequest, batch: _Batch) -> JudgeAnswer:
        request = replace(request, timeout=self.retry_policy.timeout)
        unreadable_left = 0 if self.backend.is_deterministic else 1
        attempt = _Attempt("transient")
        for number in range(self.retry_policy.retries + 1):
            if number:
                backoff = self.retry_policy.backoff * 2 ** (number - 1) * _JITTER.uniform(0.5, 1.5)
                await self._sleep(min(max(backoff, attempt.pause), LONGEST_PAUSE))
            async with batch.free:
                if batch.fatal is not None:
                    raise batch.fatal
                refusal = self.budget.exhausted or self.circuit_breaker.refusal()
                if refusal:
                    return JudgeAnswer(None, refusal)
                batch.usage.retries += number > 0
                attempt = await self._attempt(request, batch)
            batch.usage.failures += attempt.kind != "answered"
            if attempt.kind in ("answered", "refused"):
                return JudgeAnswer(attempt.reply, attempt.reason, attempt.parsed)
            if attempt.kind == "unreadable":
                unreadable_left -= 1
                if unreadable_left < 0:
                    break
        if attempt.kind == "unreadable":
            return JudgeAnswer(attempt.reply, attempt.reason)
        return JudgeAnswer(None, f"{attempt.reason} ({self.retry_policy.retries + 1} attempts)")

    async def _attempt(self, request: JudgeRequest, batch: _Batch) -> _Attempt:
        estimate = estimate_tokens([request.system, *request.parts])
        delay = max(self._request_rate.take(1), self._token_rate.take(estimate))
        if delay:
            await self._sleep(delay)
        start = self._clock()
        batch.usage.calls += 1
        try:
            async with asyncio.timeout(request.timeout):
                completion = await self.backend.complete(request)
        except TimeoutError:
            return self._failed(_Attempt("transient", reason=f"timeout after {request.timeout:g} s"))
        except Exception as error:
            return self._failed(self._sort(root_cause(error), batch))
        finally:
            batch.usage.seconds.append(self._clock() - start)
        self.circuit_breaker.succeeded()
        self._pay(completion, estimate, batch)
        limit = request.sampling.get("max_tokens", self.backend.max_tokens)
        cut = f"cut at max_tokens={limit}: raise it" if completion.is_cut else None
        if not completion.text.strip():
            return _Attempt("unreadable", reason=cut or "empty reply")
        if len(completion.text) > MAX_REPLY_CHARACTERS:
            return _Attempt("unreadable", reason=f"a reply of {len(completion.text):,} characters is too long to read")
        reply = redact(make_encodable(completion.text), batch.secrets)  # a server may echo what it was sent
        try:
            parsed = request.parse(reply) if request.parse is not None else None
        except ReplyFormatError:
            return _Attempt("unreadable", None if cut else reply, cut)
        return _Attempt("answered", reply, parsed=parsed)

    def _failed(self, attempt: _Attempt) -> _Attempt:
        if attempt.kind == "transient":
            self.circuit_breaker.failed(str(attempt.reason))
        return attempt

    def _sort(self, error: BaseException, batch: _Batch) -> _Attempt:
        kind = classify(error)
        if kind == "fatal":  # from None: the cause's text may hold a key
            raise self._fatal(f"{describe(error)}{remedy(error)}", batch) from None
        reason = f"refused: {describe(error)}" if kind == "refused" else describe(error)
        if kind == "transient" and status_of(error) is None and not isinstance(error, ServerReplyError):
            reason += proxy_hint(self.backend.address)
        return _Attempt(kind, reason=reason, pause=retry_after(error))

    def _pay(self, completion: Completion, estimate: int, batch: _Batch) -> None:
        prompt = completion.prompt_tokens or estimate
        written = completion.completion_tokens or estimate_tokens(completion.text)
        dollars = completion.dollars
        if self.limits.prices is not None:
            dollars = (prompt * self.limits.prices[0] + written * self.limits.prices[1]) / 1e6
        if dollars is None and self.limits.dollars is not None:
            raise self._fatal(
                "limits.dollars can't be kept, as nobody knows what a reply costs; give limits.prices: [dollars per million tokens of "
                "requests, of replies]",
                batch,
            )
        self._token_rate.correct(prompt + written - estimate)
        self.budget.pay(prompt + written, dollars or 0.0)
        batch.usage.tokens += prompt + written
        batch.usage.dollars += dollars or 0.0

    def _fatal(self, text: str, batch: _Batch) -> JudgeError:
        batch.fatal = JudgeError(redact(f"judge {self.backend.name}: {text}"))
        return batch.fatal
