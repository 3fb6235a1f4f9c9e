"""How much a judge may be asked: requests and tokens a minute, money, and not after too many failures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from rlcap.config.section import Section

Positive = Annotated[float, Field(gt=0)]
_SHARED = ("requests_per_minute", "tokens_per_minute", "dollars", "tokens")


class JudgeLimits(Section):
    """Limits of one judge over the whole run. Every process keeps to its share of them; null means no limit."""

    requests_per_minute: Positive | None = None
    """Requests a minute, retries included."""
    tokens_per_minute: Positive | None = None
    """Tokens a minute, of requests and replies."""
    dollars: Positive | None = None
    """Dollars in all. The run stops with a checkpoint before it would spend more. Cached replies are free."""
    tokens: Positive | None = None
    """Tokens in all, of requests and replies; the run stops as for dollars."""
    prices: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)] | None = None
    """[dollars per million tokens of requests, of replies], for a backend that does not know its prices."""
    failures: Annotated[int, Field(ge=1)] = 16
    """Failed calls in a row after which the judge counts as down."""
    cool_down: Annotated[float, Field(ge=0)] = 30.0
    """Seconds until one call tries whether the judge is up again. Until then captions abstain."""

    def share_of_process(self) -> JudgeLimits:
        """Return the limits of this process: an equal share by the launcher's WORLD_SIZE."""
        processes = int(os.environ.get("WORLD_SIZE") or 1)
        shares = {name: value / processes for name in _SHARED if (value := getattr(self, name)) is not None}
        return self.model_copy(update=shares)


class RateLimit:
    """A token bucket whose users queue.

    The bucket holds a tenth of a minute's amount (at least 1) and fills at nine tenths of the rate. So no window of sixty seconds, wherever
    it begins, sees more than `per_minute` units; for single amounts that exceed the bucket, it sees at most one such amount more.

    Args:
        per_minute: units a minute; None for no limit.
        clock: returns monotonic seconds.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limited = per_minute is not None
        self.rate, self.size = 0.9 * (per_minute or 0) / 60, max(0.1 * (per_minute or 0), 1.0)
        self._clock, self._level, self._updated = clock, self.size, clock()

    def take(self, amount: float) -> float:
        """Take units from the bucket.

        Returns:
            Seconds to wait before the units may be used.
        """
        if not self.limited:
            return 0.0
        now = self._clock()
        self._level = min(self._level + (now - self._updated) * self.rate, self.size) - amount
        self._updated = now
        return max(0.0, -self._level) / self.rate

    def correct(self, difference: float) -> None:
        """Correct an amount that was taken by estimate: it turned out to be larger by `difference` (smaller where negative)."""
        self._level -= difference


class CircuitBreaker:
    """Stops asking a judge that is down.

    Without it a server that hangs would cost a batch of 64 captions half an hour of timeouts, and each batch anew. The breaker opens after
    `failures` failed calls in a row. From then on one call may try every `cool_down` seconds, until one succeeds.

    Args:
        failures: failed calls in a row that open the breaker.
        cool_down: seconds between two trials.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, failures: int = 16, cool_down: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures, self.cool_down, self._clock = failures, cool_down, clock
        self.failed_in_a_row, self.last_reason = 0, ""
        self._open_until: float | None = None

    def refusal(self) -> str | None:
        """Return why no call may be made now, or None. After None, make a call and report it by `succeeded` or `failed`."""
        if self._open_until is None:
            return None
        remaining = self._open_until - self._clock()
        if remaining > 0:
            return f"judge down: {self.failed_in_a_row} calls in a row failed, last: {self.last_reason}; next trial in {remaining:.0f} s"
        self._open()  # this call is the trial; should it never report, another trial follows after the next cool-down
        return None

    def succeeded(self) -> None:
        """Report that a call reached the judge."""
        self.failed_in_a_row, self._open_until = 0, None

    def failed(self, reason: str) -> None:
        """Report a call that failed for a reason that has nothing to do with what was asked."""
        self.failed_in_a_row, self.last_reason = self.failed_in_a_row + 1, reason
        if self.failed_in_a_row >= self.failures:
            self._open()

    def _open(self) -> None:
        self._open_until = self._clock() + self.cool_down


class Budget:
    """What may be spent in all.

    There are two lines. Beyond `exhausted` no further call is made; calls that are under way are paid. `stop_reason` says earlier that
    there is no room for another batch as costly as the costliest one so far: a run that stops there has only whole batches behind it.

    Args:
        dollars: dollars in all; None for no limit.
        tokens: tokens in all; None for no limit.
    """

    def __init__(self, dollars: float | None = None, tokens: float | None = None) -> None:
        self.limits = {name: limit for name, limit in (("dollars", dollars), ("tokens", tokens)) if limit is not None}
        self.spent = {"dollars": 0.0, "tokens": 0.0}
        self._before, self._costliest = dict(self.spent), dict.fromkeys(self.spent, 0.0)

    def begin_batch(self) -> None:
        """Note that a batch of requests begins."""
        self._before = dict(self.spent)

    def end_batch(self) -> None:
        """Note that the batch is over, so that its cost is known."""
        for name, spent in self.spent.items():
            self._costliest[name] = max(self._costliest[name], spent - self._before[name])

    def pay(self, tokens: float, dollars: float) -> None:
        """Add the cost of one call."""
        self.spent["tokens"] += tokens
        self.spent["dollars"] += dollars

    @property
    def exhausted(self) -> str | None:
        """Why no further call may be made, or None."""
        return self._shortage(dict.fromkeys(self.spent, 0.0))

    @property
    def stop_reason(self) -> str | None:
        """Why no further batch should begin, or None."""
        return self._shortage(self._costliest)

    def _shortage(self, needed: Mapping[str, float]) -> str | None:
        for name, limit in self.limits.items():
            spent = self.spent[name]
            if spent >= limit:
                return f"budget spent: {_amount(spent, name)} of {_amount(limit, name)}"
            if spent + needed[name] > limit:
                batch = _amount(needed[name], name)
                return (
                    f"budget nearly spent: {_amount(spent, name)} of {_amount(limit, name)}, and a batch takes {batch}"
                )
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return a JSON-able state for checkpoints: a resumed run has already spent what it spent before."""
        return {"spent": dict(self.spent), "costliest": dict(self._costliest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.spent, self._costliest = dict(state["spent"]), dict(state["costliest"])
        self._before = dict(self.spent)


def _amount(amount: float, unit: str) -> str:
    return f"${amount:.4g}" if unit == "dollars" else f"{amount:.0f} {unit}"
