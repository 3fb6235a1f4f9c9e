"""Credit to tokens: which words of a caption its advantage belongs to.

A reward term that says something of parts of a caption gives each token t of caption i a value c_ikt: the sum of the values
of the spans that hold the token, and 0 in no span. The advantage of the token is

    A_it = (1 / d_i) · Σ_k [ (1 − λ_k) · w_k · z_ik  +  λ_k · w_k · (c_ikt − μ_k) / s_k ]

with z_ik the caption's centred and scaled value and d_i the divisor of `rlcap.algo.advantages.combine`, and λ_k in [0, 1] the
share of the term that goes to tokens instead of the whole caption. μ_k and s_k are mean and std of the token values over the
group, by the same formula as those of captions. Each caption weighs the same in them, whatever its length.

Three properties follow:

- A span over the whole caption whose value is the caption's value gives the caption's own advantage, for every λ.
- A term without spans keeps its caption's advantage. So does a term whose tokens do not differ within the group.
- An abstention is neutral: it counts in no mean, and gives nothing to any token.

Values and spans of a term may have different units, because each is divided by its own std. In the formulas that divide by no
std of their own (`sum_…`), the spans' unit matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcap.algo.advantages import (
    AGGREGATE,
    FLOOR,
    WITH_BASELINE,
    Advantages,
    Aggregate,
    Normalize,
    leave_one_out_factor,
    term_row,
    term_scales,
)
from rlcap.algo.groups import centre, group_index, sum_in_group


def token_moments(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and mean square of the token values of each caption and term.

    Args:
        values: (N, K, C) token values; NaN in all tokens of a caption of which the term says nothing.
        mask: (N, C), 1 on the tokens that are learned.

    Returns:
        Two (N, K) float64 tensors; NaN where the term says nothing, and for a caption without tokens.
    """
    values, weights = values.double(), mask.double()[:, None]
    count = weights.sum(2)
    means, squares = ((values.pow(p) * weights).sum(2) / count for p in (1, 2))
    return means, squares


@dataclass(frozen=True, slots=True)
class CreditScales:
    """What the token values of N captions are centred by and multiplied with."""

    centres: Tensor
    """(N, K) baselines μ."""
    factors: Tensor
    """(N, K) factors w / s; 0 where the term gives no signal to the caption's tokens."""
    std_pooled: Tensor
    """(K,) pooled within-group std of the token values; NaN where no group has two captions with credit."""


def credit_scales(
    means: Tensor,
    squares: Tensor,
    weights: Tensor | Sequence[float],
    groups: int | Tensor,
    *,
    normalize: Normalize | Sequence[Normalize] = "group",
    aggregate: Aggregate = "normalize_then_sum",
    running_std: Tensor | Sequence[float] | None = None,
    baseline: Tensor | Sequence[float] | None = None,
    floor: float = FLOOR,
) -> CreditScales:
    """Return the baseline μ and the factor w / s of the token values of each caption and term.

    The arguments are those of `combine`, for token values instead of captions' values.

    Args:
        means: (N, K) as `token_moments` returns them.
        squares: (N, K) as `token_moments` returns them.
        weights: (K,) weight of each term.
        groups: an int G (consecutive runs of G rows) or (N,) ids.
        normalize: the divisor s in `normalize_then_sum`; see `combine`.
        aggregate: name of the formula; see `combine`.
        running_std: (K,) std of token values over past steps, for `running`; where NaN, that of this batch.
        baseline: for `sum_minus_…`, (K,) or (N, K) means of the token values to compare with; where NaN, the batch's mean.
        floor: a group whose std is at or below this value gives no signal.

    Raises:
        ValueError: shapes do not match, or a choice is unknown.
    """
    index = group_index(groups, len(means))
    weights = term_row(weights, means, "weights")
    centred, count, _ = centre(means, index)
    mean = means - centred
    deviations = (squares - 2 * mean * means + mean.pow(2)).clamp(min=0)
    known = ~means.isnan()
    deviations = torch.where(known, deviations, 0.0)
    freedom = (count - 1).clamp(min=0)
    spread = torch.where(count > 1, (sum_in_group(deviations, index) / freedom.clamp(min=1)).sqrt(), torch.nan)
    # Each caption of a group of n contributes (n − 1) / n degrees of freedom, so that the group has n − 1.
    total = torch.where(known, freedom / count.clamp(min=1), 0.0).sum(0)
    pooled = torch.where(total > 0, (deviations * (count > 1)).sum(0) / total.clamp(min=1e-12), torch.nan).sqrt()
    if aggregate == "normalize_then_sum":
        scale = term_scales(normalize, means, spread, pooled, running_std)
        usable = (spread > floor) & (scale > floor)
        factor = torch.where(usable, weights / torch.where(usable, scale, 1.0), 0.0)
    elif aggregate in WITH_BASELINE:
        own = means.nanmean(0).expand_as(means)
        given = torch.full_like(means, torch.nan) if baseline is None else torch.as_tensor(baseline).double().cpu()
        mean = torch.where(given.expand_as(means).isnan(), own, given.expand_as(means))
        factor = weights.expand_as(means)
    elif aggregate == "sum_then_leave_one_out":
        factor = weights * leave_one_out_factor(count)
    elif aggregate in AGGREGATE:
        factor = weights.expand_as(means)
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}; choose one of {', '.join(AGGREGATE)}")
    return CreditScales(mean.nan_to_num(0.0), torch.where(known, factor, 0.0), pooled)


def token_advantages(
    combined: Advantages,
    values: Tensor,
    mask: Tensor,
    centres: Tensor,
    factors: Tensor,
    shares: Tensor | Sequence[float],
) -> Tensor:
    """Return the (N, C) advantages of the tokens, 0 where the mask is 0.

    Args:
        combined: what `combine` returns for these N captions.
        values: (N, K, C) token values, as for `token_moments`.
        mask: (N, C), 1 on the tokens that are learned.
        centres: (N, K) as `credit_scales` returns them.
        factors: (N, K) as `credit_scales` returns them.
        shares: (K,) λ of each term, in [0, 1].
    """
    share = torch.where(factors != 0, term_row(shares, factors, "shares"), 0.0)
    change = -(share * combined.contributions.double()).sum(1)[:, None].expand(-1, values.shape[2])
    for k in range(values.shape[1]):  # one term at a time: captions can be long
        centred = values[:, k].double() - centres[:, k, None]
        change = change + (centred * (share * factors)[:, k, None]).nan_to_num(0.0)
    # As a change of the captions' advantages, so that a share of 0 leaves them the same bits.
    return (combined.advantages[:, None] + (change / combined.divisor[:, None]).float()) * mask.float().cpu()
