"""What asking a judge took, in numbers for the metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class UsageStats:
    """Of one batch."""

    calls: int = 0
    """Requests made, retries included."""
    retries: int = 0
    failures: int = 0
    """Calls without a readable reply."""
    tokens: float = 0.0
    """Read and written."""
    dollars: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of each call, from its start to its reply, failure or timeout; waiting for a place doesn't count."""

    def metrics(self) -> dict[str, float]:
        """By the names above; `latency_p50` and `latency_p95` in seconds, left out where no call was made."""
        found = {name: float(getattr(self, name)) for name in ("calls", "retries", "failures", "tokens", "dollars")}
        if self.seconds:
            found |= {f"latency_p{q}": percentile(self.seconds, q) for q in (50, 95)}
        return found

    @classmethod
    def sum(cls, tallies: Iterable[UsageStats]) -> UsageStats:
        """Several judges' in one."""
        total = cls()
        for tally in tallies:
            for name in ("calls", "retries", "failures", "tokens", "dollars", "seconds"):
                setattr(total, name, getattr(total, name) + getattr(tally, name))
        return total


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest of the values that at least q percent don't exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(q / 100 * len(values)) - 1)]
