"""What a judge may be asked: so often, for so much, and not after so many failures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlcap.config.imports import build
from rlcap.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one judge, in the whole run; every process keeps to its share (`of_this_process`). None: no limit."""

    requests_per_minute: float | None = None
    """Retries count."""
    tokens_per_minute: float | None = None
    """Read and written."""
    dollars: float | None = None
    """In all; the run stops before it is passed, with a checkpoint. Cached replies are free."""
    tokens: float | None = None
    """In all, as for dollars."""
    prices: Sequence[float] | None = None
    """Dollars per million tokens, [read, written], for an engine that doesn't tell what a reply costs."""
    failures: int = 16
    """Failed calls in a row after which the judge counts as down."""
    cool_down: float = 30.0
    """Seconds until one call tries whether it is up again; meanwhile captions abstain."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "dollars", "tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"limits.{name} must be above 0, or null for no limit, got {value}")
        if self.prices is not None and (len(self.prices) != 2 or not all(price >= 0 for price in self.prices)):
            raise ConfigError(f"limits.prices must be [dollars per million tokens read, written], got {self.prices}")
        if self.failures < 1 or self.cool_down < 0:
            raise ConfigError(
                f"limits needs failures >= 1 and cool_down >= 0, got failures={self.failures} cool_down={self.cool_down}"
            )

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Limits:
        """From a mapping of a configuration. ConfigError on unknown keys and impossible values."""
        return build(cls, given or {}, what="limits")

    def of_this_process(self) -> Limits:
        """An equal part of what is limited for all, by the launcher's WORLD_SIZE."""
        parts = int(os.environ.get("WORLD_SIZE") or 1)
        shared = ("requests_per_minute", "tokens_per_minute", "dollars", "tokens")
        return replace(self, **{n: getattr(self, n) / parts for n in shared if getattr(self, n) is not None})
