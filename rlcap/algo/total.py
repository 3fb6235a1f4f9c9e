"""One number a caption, where an algorithm wants a scalar reward rather than a comparison within the group (PPO)."""

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
    """Σ'_k w_k (r_ik − mean_k) / std_k over the components that judged caption i. (N, K) → (N,) float32.

    An abstention (NaN) contributes exactly 0, what a caption of average quality would get. weights, means, stds: (K,),
    running ones over past captions and these; a component whose std is unknown (NaN) or at most `floor` of its range's
    width (`reward_ranges`, 1 where unknown or infinite) tells captions apart by nothing but residue, and contributes 0 to all.
    Raises ValueError where a value is infinite or a length differs.
    """
    values = values.detach().cpu().double()
    if torch.isinf(values).any():
        raise ValueError("a reward value is infinite: scores must be finite, or NaN for an abstention")
    k = values.shape[1]
    reward_ranges = [1.0] * k if reward_ranges is None else reward_ranges
    for name, row in (("weights", weights), ("means", means), ("stds", stds), ("spans", reward_ranges)):
        if len(row) != k:
            raise ValueError(f"{name} must have one entry for each of {k} components, got {len(row)}")
    weights, means, stds, reward_ranges = (
        torch.tensor(list(row), dtype=torch.float64) for row in (weights, means, stds, reward_ranges)
    )
    least = floor * torch.where(torch.isfinite(reward_ranges) & (reward_ranges > 0), reward_ranges, 1.0)
    scale = torch.where(stds > least, stds, torch.inf)
    return ((values - means) / scale * weights).nan_to_num(0.0).sum(1).float()
