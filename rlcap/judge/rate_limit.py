"""A rate limit: so many requests, or tokens, a minute."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimit:
    """A token bucket whose users queue: who takes more than there is gets told how long to wait for it.

    It holds a tenth of a minute's amount (at least 1) and fills at nine tenths of the rate, so that no window of sixty
    seconds, wherever it begins, sees more than `per_minute` units; for amounts above the bucket's size, more than that and
    one such amount. None: no limit. clock: seconds, monotonic.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limited = per_minute is not None
        self.rate, self.size = 0.9 * (per_minute or 0) / 60, max(0.1 * (per_minute or 0), 1.0)
        self._clock, self._level, self._at = clock, self.size, clock()

    def take(self, amount: float) -> float:
        """Take it, and wait the seconds returned before using it."""
        if not self.limited:
            return 0.0
        now = self._clock()
        self._level = min(self._level + (now - self._at) * self.rate, self.size) - amount
        self._at = now
        return max(0.0, -self._level) / self.rate

    def settle(self, difference: float) -> None:
        """What was taken turned out to be so much more (or, below zero, less)."""
        self._level -= difference
