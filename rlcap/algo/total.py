"""The rewards of captions and tokens for algorithms that do not compare captions within a group (PPO)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlcap.algo.advantages import FLOOR


def standardised_parts(
    values: Tensor,
    weights: Sequence[float],
    means: Sequence[float],
    stds: Sequence[float],
    reward_ranges: Sequence[float] | None = None,
    *,
    floor: float = FLOOR,
) -> Tensor:
    """Return the terms w_k (r_ik − mean_k) / std_k, whose sum over the reward terms is the reward of caption i.

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
        (N, K) float64.

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
    return ((values - mean) / scale * weight).nan_to_num(0.0)


def totals_with_credit(
    parts: Tensor,
    ends: Tensor,
    weights: Sequence[float],
    means: Sequence[float],
    stds: Sequence[float],
    shares: Sequence[float],
    *,
    floor: float = FLOOR,
) -> tuple[Tensor, Tensor]:
    """Split rewards between whole captions and the tokens at which spans end.

    A term with share λ gives (1 − λ) of its caption's reward to the caption, and λ · w_k / std_k times the value of each span
    to the span's last token. The mean of past captions is subtracted at the caption's end, so that a span over the whole
    caption with the caption's value gives the caption's own reward.

    Args:
        parts: (N, K) as `standardised_parts` returns them.
        ends: (N, K, C) values of the spans at their last tokens; NaN in all tokens where a term says nothing of parts.
        weights: (K,) weight of each term.
        means: (K,) running means of the sums of a caption's span values.
        stds: (K,) running stds of the same sums.
        shares: (K,) λ of each term, in [0, 1].
        floor: a std at or below this value gives no signal.

    Returns:
        (N,) rewards of the captions and (N, C) further rewards of tokens, float32.
    """
    weight, mean, std, share = (torch.tensor(list(row), dtype=torch.float64) for row in (weights, means, stds, shares))
    usable = (std > floor) & ~mean.isnan()
    factor = torch.where(usable, weight / torch.where(usable, std, 1.0), 0.0)
    own = torch.where(ends[:, :, 0].isnan(), 0.0, share * usable.double())
    captions = ((1 - own) * parts - own * factor * mean.nan_to_num(0.0)).sum(1)
    tokens = (ends.double() * (own * factor)[:, :, None]).nan_to_num(0.0).sum(1)
    return captions.float(), tokens.float()
