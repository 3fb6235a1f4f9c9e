"""What asking a judge took: calls, retries, failures, tokens, dollars and latency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class UsageStats:
    """The usage of one batch of requests."""

    calls: int = 0
    """Calls made, retries included."""
    retries: int = 0
    """Calls that repeated a failed or unreadable one."""
    failures: int = 0
    """Calls without a readable reply."""
    tokens: float = 0.0
    """Tokens of requests and replies."""
    dollars: float = 0.0
    """Price of all calls."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each call, from its start to its reply, failure or timeout. Waiting for a free place does not count."""

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name, with `latency_p50` and `latency_p95` in seconds where a call was made."""
        numbers = {
            "calls": float(self.calls),
            "retries": float(self.retries),
            "failures": float(self.failures),
            "tokens": self.tokens,
            "dollars": self.dollars,
        }
        if self.seconds:
            numbers |= {f"latency_p{q}": percentile(self.seconds, q) for q in (50, 95)}
        return numbers

    @classmethod
    def sum(cls, parts: Iterable[UsageStats]) -> UsageStats:
        """Add up the usage of several judges."""
        total = cls()
        for part in parts:
            total.calls += part.calls
            total.retries += part.retries
            total.failures += part.failures
            total.tokens += part.tokens
            total.dollars += part.dollars
            total.seconds += part.seconds
        return total


def percentile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least q percent of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(q / 100 * len(values)) - 1)]
