"""Stops a run whose reward component mostly abstains.

One abstention is harmless: the caption's other components judge it. A component that abstains all the time is a broken
judge (an expired key, a wrong column, a model that answers in the wrong format), and the run would go on without it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from rlcap.errors import ExcessiveAbstentionError
from rlcap.types import Score


class AbstentionMonitor:
    """Watches the abstentions of each component over a sliding window of captions.

    max_abstain: share in [0, 1] above which `watch` raises; 1 never does.
    window: captions looked back upon. at_least: captions seen before it judges.
    """

    def __init__(self, names: Iterable[str], max_abstain: float = 0.5, window: int = 512, at_least: int = 64) -> None:
        if not 0 <= max_abstain <= 1:
            raise ValueError(f"max_abstain is a share in [0, 1], got {max_abstain}")
        if not 1 <= at_least <= window:
            raise ValueError(f"at_least must lie in [1, window={window}], got {at_least}")
        self.max_abstain, self.at_least = max_abstain, at_least
        self.reasons: dict[str, deque[str | None]] = {name: deque(maxlen=window) for name in names}

    def watch(self, name: str, scores: Sequence[Score]) -> None:
        """Take note of a batch. Raises ExcessiveAbstentionError with the component's name and its commonest reasons."""
        seen = self.reasons[name]
        seen.extend(score.reason if score.abstained else None for score in scores)
        share = self.share(name)
        if len(seen) >= self.at_least and share > self.max_abstain:
            commonest = Counter(reason for reason in seen if reason is not None).most_common(3)
            listed = "; ".join(f"{count}× {reason}" for reason, count in commonest)
            raise ExcessiveAbstentionError(
                f"reward term {name!r} abstained on {share:.0%} of the last {len(seen)} captions (allowed: "
                f"{self.max_abstain:.0%}). Commonest reasons: {listed}. Mend the cause, take the component out of the "
                f"mix, or raise max_abstain"
            )

    def share(self, name: str) -> float:
        """Share of abstentions in the window, 0 before the first caption."""
        seen = self.reasons[name]
        return sum(reason is not None for reason in seen) / len(seen) if seen else 0.0

    def state_dict(self) -> dict[str, list[str | None]]:
        """JSON-able: component → reasons of the window, None where it judged."""
        return {name: list(seen) for name, seen in self.reasons.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[str | None]]) -> None:
        """Take up a window; components that the state doesn't know start empty."""
        for name, seen in self.reasons.items():
            seen.clear()
            seen.extend(state.get(name, ()))
