"""Turn the values of reward terms into advantages, with abstentions handled in every formula.

All functions are pure tensor functions. They share two arguments:

    values (N, K): one row per caption, one column per reward term, NaN where the term abstained
    groups: which captions belong to the same image; an int G (consecutive runs of G rows) or (N,) ids

The trainers call `combine`. It offers the following formulas, with r_ik the values, w_k the weights, R_i the weighted
sum and Σ' the sum over the terms that judged caption i:

    normalize_then_sum      Σ'_k w_k (r_ik − mean_group r_k) / scale_k, over its std       GDPO; BalCapRL's c-GDPO
    sum_then_normalize      (R_i − mean_group R) / std_group R, R = Σ_k w_k r_k            GRPO, DeepSeekMath eq. 3
    sum_then_center         R_i − mean_group R                                             Dr. GRPO; MOCHa
    sum_then_leave_one_out  R_i − mean of R over the others of the group               RLOO, Ahmadian et al. 2024; CapRL
    sum_minus_running_mean  Σ'_k w_k (r_ik − mean of r_k over past captions)               REINFORCE; DiscriTune, NDLB
    sum_minus_greedy        Σ'_k w_k (r_ik − r_k of the image's greedy caption)            SCST; CLIP-Caption-Reward

The arithmetic differs from TRL's in two ways, both on purpose:

- An abstention is neutral. Means are taken over the captions that were judged, and a term that abstained contributes
  exactly zero to the caption. TRL's `sum_then_normalize` counts a missing term as the value 0, which pushes the caption
  down.
- A term whose std within a group is at or below a floor gives no signal there. Tiny differences from rounding
  (NeMo-RL#4161: std 1.6e-4) are not enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from rlcap.algo.groups import any_in_group, centre, first_rows, group_index, pooled_std, std

Normalize = Literal["group", "batch", "running", "none"]
Aggregate = Literal[
    "normalize_then_sum",
    "sum_then_normalize",
    "sum_then_center",
    "sum_then_leave_one_out",
    "sum_minus_running_mean",
    "sum_minus_greedy",
]
NORMALIZE: tuple[str, ...] = get_args(Normalize)
AGGREGATE: tuple[str, ...] = get_args(Aggregate)
WITH_BASELINE = ("sum_minus_running_mean", "sum_minus_greedy")
"""The formulas whose baseline does not come from the group; they also work with one caption per image."""
FLOOR = 1e-4
"""A within-group std at or below this share of the term's range counts as no difference at all."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """The result of `combine`: the advantages and the statistics that the dashboard shows."""

    advantages: Tensor
    """(N,) float32; zero where no term judged the caption or no term distinguishes it from its siblings."""
    contributions: Tensor
    """(N, K) weighted contribution of each term before the last division; each row sums to `advantages` times `divisor`."""
    divisor: Tensor
    """(N,) what the sum of a row's contributions was divided by: 1, the std of whitening, or that of the group's totals. Infinite where
    the advantage is 0 because the totals do not differ."""
    std_within_group: Tensor
    """(K,) mean over groups of the term's unbiased std; NaN where no group has two judged captions."""
    std_batch: Tensor
    """(K,) unbiased std of the term over the whole batch."""
    std_pooled: Tensor
    """(K,) pooled within-group std: √(Σ_g Σ_i (r − mean_g)² / Σ_g (n_g − 1)); the divisor of `batch` and `running`."""
    zero_variance_share_by_term: Tensor
    """(K,) share of groups, in [0, 1], to which the term gives no signal."""
    zero_variance_share: float
    """Share of groups, in [0, 1], in which every advantage is zero: they cost compute and give no gradient."""

    def rows(self, rows: slice) -> Advantages:
        """Return the advantages of some captions, with the statistics of all."""
        parts = {name: getattr(self, name)[rows] for name in ("advantages", "contributions", "divisor")}
        return replace(self, **parts)


def group_mean_std(rewards: Tensor, groups: int | Tensor, *, floor: float = FLOOR) -> Tensor:
    """Return (r − mean) / std within each group, with the unbiased std (GRPO, DeepSeekMath eq. 3).

    Rewards (1, 0, 0, 0) of one group become (1.5, −.5, −.5, −.5).

    Args:
        rewards: (N,) rewards; NaN where a caption was not judged.
        groups: as in the module docstring.
        floor: groups whose std is at or below this value get 0.

    Returns:
        (N,) float32; 0 where the reward is NaN.
    """
    centred, _, spread = centre(rewards[:, None], group_index(groups, len(rewards)))
    return _divide(centred, spread, floor)[:, 0].to(torch.float32)


def group_mean(rewards: Tensor, groups: int | Tensor) -> Tensor:
    """Return r − mean within each group, unscaled (MOCHa; Dr. GRPO): (N,) → (N,) float32. NaN rewards give 0."""
    return centre(rewards[:, None], group_index(groups, len(rewards)))[0][:, 0].to(torch.float32)


def leave_one_out(rewards: Tensor, groups: int | Tensor) -> Tensor:
    """Return each reward minus the mean of the other rewards of its group: (N,) → (N,) float32.

    This is RLOO (Kool et al. 2019; Ahmadian et al. 2024, eq. 8). It equals n / (n − 1) times `group_mean`: rewards (1,
    0, 0, 0) become (1, −⅓, −⅓, −⅓). NaN rewards do not count towards any mean and give 0. A caption that is alone in
    its group gives 0 as well.
    """
    centred, count, _ = centre(rewards[:, None], group_index(groups, len(rewards)))
    return (centred * leave_one_out_factor(count))[:, 0].to(torch.float32)


def combine(
    values: Tensor,
    weights: Tensor | Sequence[float],
    groups: int | Tensor,
    *,
    normalize: Normalize | Sequence[Normalize] = "group",
    aggregate: Aggregate = "normalize_then_sum",
    whiten: bool = True,
    reward_ranges: Tensor | Sequence[float] | None = None,
    running_std: Tensor | Sequence[float] | None = None,
    baseline: Tensor | Sequence[float] | None = None,
    floor: float = FLOOR,
) -> Advantages:
    """Combine the values of all reward terms into one advantage per caption.

    Args:
        values: (N, K) values; NaN where a term abstained.
        weights: (K,) weight of each term.
        groups: as in the module docstring.
        normalize: the divisor of a centred value in `normalize_then_sum`, one choice per term or one for all terms.
            `group`: the std within the group. `batch`: the pooled within-group std over this batch. `running`: the same
            over past steps, taken from `running_std`. `none`: no division. The baseline is always the group's mean.
        aggregate: name of the formula (see the module docstring). In `sum_then_…`, a term that abstained takes the mean
            of its judged siblings, or is left out for the whole group; this makes the abstention neutral in a sum.
        whiten: divide by the std of the advantages over the captions of groups that carry signal; no mean is
            subtracted. TRL divides by the std over all captions, so that a few groups with signal among many without
            grow by sqrt(all / with signal). Whitening applies to `normalize_then_sum` and `sum_minus_…`; the formulas
            that centre a sum stay as they were published.
        reward_ranges: (K,) width of each term's range, the unit of `floor`; 1 where unknown or infinite.
        running_std: (K,) pooled within-group std over past steps; where it is NaN, `running` falls back to `batch`.
        baseline: for `sum_minus_running_mean`, the (K,) means of past values; where NaN, the mean of this batch is
            used. (Published code uses zero at the first step, which would push all captions the same way.) For
            `sum_minus_greedy`, the (N, K) values of each image's greedy caption; a term is left out for a caption where
            it abstained on either of the two.
        floor: a group whose std is at or below `floor` times the term's range gives no signal.

    Returns:
        The advantages and their statistics.

    Raises:
        ValueError: shapes do not match, a choice is unknown, or the formula needs a baseline and none was passed.
    """
    index = group_index(groups, len(values))
    if values.ndim != 2:
        raise ValueError(f"values must have shape (captions, terms), got shape {tuple(values.shape)}")
    weights = term_row(weights, values, "weights")
    reward_ranges = term_row(
        reward_ranges if reward_ranges is not None else [1.0] * values.shape[1], values, "reward_ranges"
    )
    reward_ranges = torch.where(
        torch.isfinite(reward_ranges) & (reward_ranges > 0), reward_ranges, torch.ones_like(reward_ranges)
    )
    centred, count, spread = centre(values, index)
    values = values.detach().cpu().double()
    pooled = pooled_std(centred, count, index)

    if aggregate == "normalize_then_sum":
        scale = term_scales(normalize, values, spread, pooled, running_std)
        parts = _divide(centred, scale, floor * reward_ranges, signal=spread) * weights
    elif aggregate in WITH_BASELINE:
        parts = (values - _baseline(aggregate, baseline, values)).nan_to_num(0.0) * weights
    elif aggregate == "sum_then_leave_one_out":
        parts = centred * leave_one_out_factor(count) * weights
    elif aggregate in AGGREGATE:
        # Where a term judged no caption of a group, its centred values are all zero: the term is left out.
        parts = centred * weights
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}; choose one of {', '.join(AGGREGATE)}")
    advantages = parts.sum(1)
    divisor = torch.ones_like(advantages)
    if aggregate == "sum_then_normalize":
        # A caption that no term judged has no total, and must not count in its group's std.
        total = torch.where(values.isnan().all(1), torch.nan, advantages)
        least = floor * float((weights.abs() * reward_ranges).max())
        total_std = centre(total[:, None], index)[2][:, 0]
        divisor = torch.where(total_std > least, total_std, torch.inf)
        advantages = group_mean_std(total, index, floor=least).double()

    live = any_in_group(advantages.abs() > 0, index)
    if whiten and aggregate in ("normalize_then_sum", *WITH_BASELINE) and live.sum() > 1:
        live_std = advantages[live].std()
        if live_std > FLOOR * weights.abs().sum():
            advantages, divisor = advantages / live_std, divisor * live_std
    first = first_rows(index)
    part_live = torch.stack([any_in_group(column.abs() > 0, index) for column in parts.T], 1)
    return Advantages(
        advantages=advantages.to(torch.float32),
        contributions=parts.to(torch.float32),
        divisor=divisor,
        std_within_group=torch.nanmean(spread[first], 0),
        std_batch=torch.stack([std(column[~column.isnan()]) for column in values.T]),
        std_pooled=pooled,
        zero_variance_share_by_term=1 - part_live[first].double().mean(0),
        zero_variance_share=1 - float(live[first].double().mean()),
    )


def term_row(entries: Tensor | Sequence[float], values: Tensor, name: str) -> Tensor:
    """Return `entries` as a (K,) float64 tensor; raise ValueError where there is not one entry per term."""
    row = torch.as_tensor(entries, dtype=torch.float64).cpu()
    if row.shape != (values.shape[1],):
        raise ValueError(
            f"{name} must have one entry for each of {values.shape[1]} terms, got shape {tuple(row.shape)}"
        )
    return row


def leave_one_out_factor(count: Tensor) -> Tensor:
    """Return the factor n / (n − 1) that turns "value − group mean" into "value − mean of the others"."""
    return torch.where(count > 1, count / (count - 1).clamp(min=1), 0.0)


def _baseline(aggregate: str, baseline: Tensor | Sequence[float] | None, values: Tensor) -> Tensor:
    """Return the (K,) or (N, K) values to subtract."""
    if aggregate == "sum_minus_running_mean":
        means = term_row([torch.nan] * values.shape[1] if baseline is None else baseline, values, "baseline")
        return torch.where(means.isnan(), values.nanmean(0), means)
    if baseline is None:
        raise ValueError("sum_minus_greedy needs a baseline: the values of each image's greedy caption, (N, K)")
    greedy = torch.as_tensor(baseline, dtype=torch.float64).cpu()
    if greedy.shape != values.shape:
        raise ValueError(
            f"the baseline of greedy captions must have the shape {tuple(values.shape)} of the values, "
            f"got {tuple(greedy.shape)}"
        )
    return greedy


def term_scales(
    normalize: Normalize | Sequence[Normalize],
    values: Tensor,
    spread: Tensor,
    pooled: Tensor,
    running_std: Tensor | Sequence[float] | None,
) -> Tensor:
    """Return the (N, K) divisors of the centred values."""
    k = values.shape[1]
    choices = [normalize] * k if isinstance(normalize, str) else list(normalize)
    if len(choices) != k or not set(choices) <= set(NORMALIZE):
        raise ValueError(f"normalize must be {k} choices out of {', '.join(NORMALIZE)}; got {choices}")
    running = torch.full((k,), torch.nan) if running_std is None else running_std
    running = term_row(running, values, "running_std")
    columns = {
        "group": spread,
        "batch": pooled.expand_as(spread),
        "running": torch.where(running.isnan(), pooled, running).expand_as(spread),
        "none": torch.ones_like(spread),
    }
    return torch.stack([columns[choice][:, i] for i, choice in enumerate(choices)], 1)


def _divide(centred: Tensor, scale: Tensor, floor: float | Tensor, signal: Tensor | None = None) -> Tensor:
    """Return centred / scale; 0 where abstained and where the group's std (`signal`) is unknown or at most `floor`."""
    signal = scale if signal is None else signal
    usable = (signal > floor) & (scale > floor)
    return torch.where(usable, centred / torch.where(usable, scale, 1.0), 0.0)
