"""Rewards as metrics: any reward measures captions too, where it took no part in their training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlcap.errors import InputError
from rlcap.reward.mix import RewardMix
from rlcap.types import RewardBatch

BOOKKEEPING = ("mean", "weighted_mean", "std_batch", "abstain_rate", "seconds")
"""What a mix logs of every term beside what the reward measured itself."""


@dataclass(frozen=True, slots=True)
class RewardMetrics:
    """What rewards say of N captions."""

    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Metric → (N,) values, NaN where the reward abstained."""
    corpus: dict[str, float] = field(default_factory=dict)
    """What a reward measures over all captions together, such as `chair/chair_i`."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Reward → why it measured nothing: what it lacks."""


def reward_metrics(
    entries: Mapping[str, Mapping[str, Any]],
    batch: RewardBatch,
    context: Mapping[str, Any],
    taken: frozenset[str] = frozenset(),
) -> RewardMetrics:
    """Measure captions by rewards. A reward that can't be built, or abstains on every caption, is told and left out.

    Args:
        entries: Name → term, as in a mix; weights have no effect.
        batch: N captions with their samples and bags.
        context: Values for the rewards' constructors; see `RewardMix.from_config`.
        taken: Names of other metrics. A reward of such a name becomes `NAME_reward`.
    """
    found = RewardMetrics()
    for name, entry in entries.items():
        try:
            scores = RewardMix.from_config({name: entry}, context=context, max_abstain=1.0).score(batch)
        except InputError as error:
            found.lacking[name] = str(error)
            continue
        own = scores.scores[name]
        if all(score.abstained for score in own):
            reason, count = Counter(score.reason for score in own).most_common(1)[0]
            found.lacking[name] = f"{reason} ({count} of {len(own)} captions)"
            continue
        values = [np.nan if score.value is None else score.value for score in own]
        found.values[f"{name}_reward" if name in taken else name] = np.asarray(values, dtype=np.float64)
        for key, value in scores.metrics.items():
            what = key.removeprefix(f"{name}/")
            if what not in BOOKKEEPING and not what.endswith("_count"):
                found.corpus[key] = value
    return found
