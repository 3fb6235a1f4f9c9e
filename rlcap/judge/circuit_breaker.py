"""A circuit breaker: a judge that is down is not asked again and again.

Without one, a server that hangs costs a batch of 64 captions half an hour of timeouts, and each batch anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after `failures` calls in a row have failed; then one call may try every `cool_down` seconds, until one succeeds.

    clock: seconds, monotonic.
    """

    def __init__(
        self, failures: int = 16, cool_down: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures, self.cool_down, self._clock = failures, cool_down, clock
        self.in_a_row, self.last = 0, ""
        self._closed_until: float | None = None

    def refusal(self) -> str | None:
        """Why no call may be made now. None: make one, and report it by `succeeded` or `failed`."""
        if self._closed_until is None:
            return None
        rest = self._closed_until - self._clock()
        if rest > 0:
            return f"judge down: {self.in_a_row} calls in a row failed, last: {self.last}; next trial in {rest:.0f} s"
        self._pause()  # this call is the trial; should it never report, another one follows after the next cool-down
        return None

    def succeeded(self) -> None:
        """The judge is alive."""
        self.in_a_row, self._closed_until = 0, None

    def failed(self, reason: str) -> None:
        """A call failed by no fault of its question."""
        self.in_a_row, self.last = self.in_a_row + 1, reason
        if self.in_a_row >= self.failures:
            self._pause()

    def _pause(self) -> None:
        self._closed_until = self._clock() + self.cool_down
