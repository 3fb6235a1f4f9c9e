"""Finds a reward term that mostly abstains, so that the run can stop.

One abstention is harmless, because the caption's other terms judge it. A term that abstains all the time has a broken
judge (an expired key, a wrong column, a model that answers in the wrong format), and without this check the run would
go on without the term.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from rlcap.types import Score


class AbstentionMonitor:
    """Watches the abstentions of each reward term over a sliding window of captions.

    Args:
        names: names of the reward terms.
        max_abstain: share in [0, 1] above which `stop_reason` is set; with 1 it never is.
        window: number of the most recent captions that count.
        at_least: number of captions that must have been seen before `stop_reason` is set, in [1, window].
    """

    def __init__(self, names: Iterable[str], max_abstain: float = 0.5, window: int = 512, at_least: int = 64) -> None:
        if not 0 <= max_abstain <= 1:
            raise ValueError(f"max_abstain is a share and must lie in [0, 1], got {max_abstain}")
        if not 1 <= at_least <= window:
            raise ValueError(f"at_least must lie in [1, window={window}], got {at_least}")
        self.max_abstain, self.at_least = max_abstain, at_least
        self.reasons: dict[str, deque[str | None]] = {name: deque(maxlen=window) for name in names}

    def watch(self, name: str, scores: Sequence[Score]) -> None:
        """Record the scores of a batch."""
        self.reasons[name].extend(score.reason if score.abstained else None for score in scores)

    @property
    def stop_reason(self) -> str | None:
        """Which term abstains too often, with its most frequent reasons; None where none does."""
        for name, window in self.reasons.items():
            share = self.share(name)
            if len(window) >= self.at_least and share > self.max_abstain:
                most_frequent = Counter(reason for reason in window if reason is not None).most_common(3)
                listed = "; ".join(f"{count}× {reason}" for reason, count in most_frequent)
                return (
                    f"reward term {name!r} abstained on {share:.0%} of the last {len(window)} captions (allowed: "
                    f"{self.max_abstain:.0%}). Most frequent reasons: {listed}. Remove the cause, take the term out of the "
                    "mix, or raise train.max_abstain"
                )
        return None

    def share(self, name: str) -> float:
        """Return the share of abstentions in the window; 0 before the first caption."""
        window = self.reasons[name]
        return sum(reason is not None for reason in window) / len(window) if window else 0.0
