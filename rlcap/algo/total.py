"""One scalar reward per caption, for algorithms that do not compare captions within a group (PPO)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcap.algo.advantages import FLOOR


def standardised_total(
    values: Tensor,
    weights: Sequence[float],
    means: Sequence[float],
    stds: Sequence[float],
    reward_ranges: Sequence[float] | None = None,
    *,
    floor: float = FLOOR,
) -> Tensor:
    """Return Σ'_k w_k (r_ik − mean_k) / std_k over the reward terms that judged caption i.

    An abstention (NaN) contributes exactly 0, as a caption of average quality would. A term whose std is unknown (NaN)
    or at most `floor` times the width of its range contributes 0 to all captions, since only numerical residue
    distinguishes them.

    Args:
        values: (N, K) values; NaN where a term abstained.
        weights: (K,) weight of each term.
        means: (K,) running means over past captions and these.
        stds: (K,) running stds over past captions and these.
        reward_ranges: (K,) width of each term's range; 1 where unknown or infinite.
        floor: smallest share of the range that counts as a difference.

    Returns:
        (N,) float32.

    Raises:
        ValueError: a value is infinite, or a sequence does not have K entries.
    """
    values = values.detach().cpu().double()
    if torch.isinf(values).any():
        raise ValueError("a reward value is infinite: scores must be finite, or NaN for an abstention")
    k = values.shape[1]
    reward_ranges = [1.0] * k if reward_ranges is None else reward_ranges
    for name, row in (("weights", weights), ("means", means), ("stds", stds), ("reward_ranges", reward_ranges)):
        if len(row) != k:
            raise ValueError(f"{name} must have one entry for each of {k} terms, got {len(row)}")
    weight, mean, std, width = (
        torch.tensor(list(row), dtype=torch.float64) for row in (weights, means, stds, reward_ranges)
    )
    smallest_std = floor * torch.where(torch.isfinite(width) & (width > 0), width, 1.0)
    scale = torch.where(std > smallest_std, std, torch.inf)
    return ((values - mean) / scale * weight).nan_to_num(0.0).sum(1).float()
