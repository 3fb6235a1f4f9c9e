"""How well values put things into the order of the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ordering_agreement(
    values: Sequence[float], truth: Sequence[float], floor: float = 0.0, clear: float = 0.1
) -> float:
    """Return the share of pairs of captions of one image that the values order as the truth does.

    Args:
        values: The N values, NaN where a caption was not judged; its pairs are left out.
        truth: N truths.
        floor: Differences of values up to this size are ties, which count half.
        clear: Only pairs whose truths differ by more than this count.

    Returns:
        A share in [0, 1]; NaN where no pair is clear.
    """
    right = total = 0.0
    for i, first in enumerate(truth):
        for j in range(i):
            gap = (values[i] - values[j]) * math.copysign(1.0, first - truth[j])
            if abs(first - truth[j]) > clear and not math.isnan(gap):
                total += 1
                right += 1.0 if gap > floor else 0.5 if gap >= -floor else 0.0
    return right / total if total else math.nan
