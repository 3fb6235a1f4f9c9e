"""The choice of a few images that a run follows through training: varied, and the same in every run on the same data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from rlcap.types import Sample


def choose_panel(samples: Sequence[Sample], count: int) -> list[int]:
    """Return the positions of up to `count` samples that resemble each other as little as possible, in ascending order.

    Data sets list similar images one after the other: shots of one scene, frames of a video, a family of the lab. So the first
    images would be near-duplicates. The choice begins with the sample whose hashed id is smallest, and then adds the sample that
    is farthest from those chosen: one that lists none of them among its hard distractors and is in none of their lists, or else
    one that stands as late as possible in these lists. Hashed ids decide between equals.

    Args:
        samples: N samples.
        count: The number of samples to choose.
    """
    rank_of = [{id: rank for rank, id in enumerate(sample.distractors.get("hard", ()))} for sample in samples]
    left = sorted(range(len(samples)), key=lambda i: hashed(samples[i].id))
    chosen: list[int] = []
    distance = dict.fromkeys(left, math.inf)
    while left and len(chosen) < count:
        best = max(left, key=lambda i: distance[i])  # the first of equals
        left.remove(best)
        chosen.append(best)
        for i in left:
            ranks = rank_of[i].get(samples[best].id, math.inf), rank_of[best].get(samples[i].id, math.inf)
            distance[i] = min(distance[i], *ranks)
    return sorted(chosen)


def hashed(id: str) -> str:
    """Return a key that puts ids into an order that has nothing to do with their names."""
    return hashlib.sha256(id.encode("utf-8")).hexdigest()
