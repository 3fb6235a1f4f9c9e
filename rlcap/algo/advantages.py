"""From component rewards to advantages: pure tensor functions that know abstentions.

    values (N, K): one row a caption, one column a component, NaN where the component abstained
    groups: captions of one image belong together; an int G (rows lie in runs of G) or (N,) ids

`combine` is what the trainers call. With r_ik the values, w_k the weights and Σ' over the components that judged caption i:

    normalize_then_sum      Σ'_k w_k (r_ik − mean_group r_k) / scale_k, over its std       GDPO; BalCapRL's c-GDPO
    sum_then_normalize      (R_i − mean_group R) / std_group R, R = Σ_k w_k r_k            GRPO, DeepSeekMath eq. 3
    sum_then_center         R_i − mean_group R                                             Dr. GRPO; MOCHa
    sum_then_leave_one_out  R_i − mean of R over the others of the group                   RLOO, Ahmadian et al. 2024; CapRL
    sum_minus_running_mean  Σ'_k w_k (r_ik − mean of r_k over past captions)               REINFORCE; DiscriTune, NDLB
    sum_minus_greedy        Σ'_k w_k (r_ik − r_k of the image's greedy caption)            SCST; CLIP-Caption-Reward

Two things differ from TRL's arithmetic, both on purpose. An abstention is neutral: means are taken over the captions
that were judged, and the abstained component's contribution to the caption is exactly zero (TRL's `sum_then_normalize`
counts a missing component as the value 0 and pushes the caption down). And a group whose std is below a floor says
nothing rather than noise: numerical residue (NeMo-RL#4161: std 1.6e-4) is not blown up to unit size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
NORMALIZE = ("group", "batch", "running", "none")
AGGREGATE = (
    "normalize_then_sum",
    "sum_then_normalize",
    "sum_then_center",
    "sum_then_leave_one_out",
    "sum_minus_running_mean",
    "sum_minus_greedy",
)
WITH_BASELINE = ("sum_minus_running_mean", "sum_minus_greedy")
"""Those whose baseline comes from elsewhere than the group; they work with one caption an image too."""
FLOOR = 1e-4
"""A within-group std below this share of the component's range counts as no difference at all."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What `combine` answers, and what the dashboard shows of it."""

    advantages: Tensor
    """(N,) float32, zero where nothing judged the caption or nothing told it from its siblings."""
    contributions: Tensor
    """(N, K) the weighted part of each component before whitening; rows sum to the unwhitened advantage."""
    std_within_group: Tensor
    """(K,) mean over groups of the component's unbiased std; NaN where no group has two judged captions."""
    std_batch: Tensor
    """(K,) unbiased std of the component over the whole batch."""
    std_pooled: Tensor
    """(K,) pooled within-group std: sqrt(Σ_g Σ_i (r − mean_g)² / Σ_g (n_g − 1)); what `batch` and `running` divide by."""
    zero_variance_share_by_term: Tensor
    """(K,) share of groups to which the component gave no signal."""
    zero_variance_share: float
    """Share of groups without any advantage: they cost compute and teach nothing."""


def group_mean_std(rewards: Tensor, groups: int | Tensor, *, floor: float = FLOOR) -> Tensor:
    """(r − mean) / std within the group, unbiased std (GRPO, DeepSeekMath eq. 3). (N,) → (N,).

    Rewards (1, 0, 0, 0) → (1.5, −.5, −.5, −.5). NaN rewards and groups with std ≤ `floor` give 0.
    """
    centred, _, spread = centre(rewards[:, None], group_index(groups, len(rewards)))
    return _divide(centred, spread, floor)[:, 0].to(torch.float32)


def group_mean(rewards: Tensor, groups: int | Tensor) -> Tensor:
    """r − mean within the group, unscaled (MOCHa; Dr. GRPO). (N,) → (N,). NaN rewards give 0."""
    return centre(rewards[:, None], group_index(groups, len(rewards)))[0][:, 0].to(torch.float32)


def leave_one_out(rewards: Tensor, groups: int | Tensor) -> Tensor:
    """r_i − mean of the others of its group (RLOO: Kool et al. 2019; Ahmadian et al. 2024, eq. 8). (N,) → (N,).

    Rewards (1, 0, 0, 0) → (1, −⅓, −⅓, −⅓): n / (n − 1) times `group_mean`. NaN rewards are nobody's others and give 0,
    as does a caption without others.
    """
    centred, count, _ = centre(rewards[:, None], group_index(groups, len(rewards)))
    return (centred * _leaving_one_out(count))[:, 0].to(torch.float32)


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
    """Component rewards → one advantage a caption, by the formula of the module docstring that `aggregate` names.

    values (N, K), NaN = abstained. weights (K,). groups as in the module docstring.

    normalize: of `normalize_then_sum`, per component (or one for all) what its centred value is divided by: `group` its
      std within the group, `batch` its pooled within-group std over this batch, `running` the same over past steps
      (`running_std`, (K,); NaN where unknown falls back to `batch`), `none` nothing. The baseline is always the group's
      mean.
    aggregate: in `sum_then_…` an abstained component takes the mean of its judged siblings (or is left out for the whole
      group), which is what makes it neutral in a sum.
    whiten: divide by the std of the advantages over the captions of groups that carry signal (TRL divides by that of all
      captions, so a few live groups among many dead ones grow by sqrt(all / live)). No mean is subtracted. Of
      `normalize_then_sum` and `sum_minus_…`; the forms that centre a sum are left as they were published.
    spans: (K,) width of each component's range, in whose units `floor` is meant; 1 where unknown or infinite.
    baseline: of `sum_minus_running_mean` the (K,) means of past values, the batch's own where NaN (at the first step: zero
      there, as published code has it, would push all captions one way); of `sum_minus_greedy` the (N, K) values of each
      image's greedy caption, a component being left out of a caption where it abstained on either.

    Raises ValueError on shapes that don't match, on unknown choices and on a baseline that is missing.
    """
    index = group_index(groups, len(values))
    if values.ndim != 2:
        raise ValueError(f"values must be (captions, components), got shape {tuple(values.shape)}")
    weights = _per_component(weights, values, "weights")
    reward_ranges = _per_component(
        reward_ranges if reward_ranges is not None else [1.0] * values.shape[1], values, "spans"
    )
    reward_ranges = torch.where(
        torch.isfinite(reward_ranges) & (reward_ranges > 0), reward_ranges, torch.ones_like(reward_ranges)
    )
    centred, count, spread = centre(values, index)
    values = values.detach().cpu().double()
    pooled = pooled_std(centred, count, index)

    if aggregate == "normalize_then_sum":
        scale = _scales(normalize, values, spread, pooled, running_std)
        parts = _divide(centred, scale, floor * reward_ranges, signal=spread) * weights
    elif aggregate in WITH_BASELINE:
        parts = (values - _baseline(aggregate, baseline, values)).nan_to_num(0.0) * weights
    elif aggregate == "sum_then_leave_one_out":
        parts = centred * _leaving_one_out(count) * weights
    elif aggregate in AGGREGATE:
        # In a group where a component judged nobody its centred values are all zero: it is left out.
        parts = centred * weights
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}; choose one of {', '.join(AGGREGATE)}")
    advantages = parts.sum(1)
    if aggregate == "sum_then_normalize":
        # A caption that nobody judged has no total; it must not count in its group's std either.
        total = torch.where(values.isnan().all(1), torch.nan, advantages)
        advantages = group_mean_std(total, index, floor=floor * float((weights.abs() * reward_ranges).max())).double()

    live = any_in_group(advantages.abs() > 0, index)
    if whiten and aggregate in ("normalize_then_sum", *WITH_BASELINE) and live.sum() > 1:
        whole = advantages[live].std()
        if whole > FLOOR * weights.abs().sum():
            advantages = advantages / whole
    first = first_rows(index)
    part_live = torch.stack([any_in_group(column.abs() > 0, index) for column in parts.T], 1)
    return Advantages(
        advantages=advantages.to(torch.float32),
        contributions=parts.to(torch.float32),
        std_within_group=torch.nanmean(spread[first], 0),
        std_batch=torch.stack([std(column[~column.isnan()]) for column in values.T]),
        std_pooled=pooled,
        zero_variance_share_by_term=1 - part_live[first].double().mean(0),
        zero_variance_share=1 - float(live[first].double().mean()),
    )


def _per_component(given: Tensor | Sequence[float], values: Tensor, name: str) -> Tensor:
    row = torch.as_tensor(given, dtype=torch.float64).cpu()
    if row.shape != (values.shape[1],):
        raise ValueError(f"{name} must have one entry for each of {values.shape[1]} components, got {tuple(row.shape)}")
    return row


def _leaving_one_out(count: Tensor) -> Tensor:
    """What a value less its group's mean is to be multiplied with, to be less the mean of the others."""
    return torch.where(count > 1, count / (count - 1).clamp(min=1), 0.0)


def _baseline(aggregate: str, given: Tensor | Sequence[float] | None, values: Tensor) -> Tensor:
    """(K,) or (N, K) what is subtracted."""
    if aggregate == "sum_minus_running_mean":
        means = _per_component([torch.nan] * values.shape[1] if given is None else given, values, "baseline")
        return torch.where(means.isnan(), values.nanmean(0), means)
    if given is None:
        raise ValueError("sum_minus_greedy needs a baseline: the values of each image's greedy caption, (N, K)")
    greedy = torch.as_tensor(given, dtype=torch.float64).cpu()
    if greedy.shape != values.shape:
        raise ValueError(
            f"a baseline of greedy captions is {tuple(values.shape)} as the values, got {tuple(greedy.shape)}"
        )
    return greedy


def _scales(
    normalize: Normalize | Sequence[Normalize],
    values: Tensor,
    spread: Tensor,
    pooled: Tensor,
    running_std: Tensor | Sequence[float] | None,
) -> Tensor:
    """(N, K) what each centred value is divided by."""
    k = values.shape[1]
    choices = [normalize] * k if isinstance(normalize, str) else list(normalize)
    if len(choices) != k or not set(choices) <= set(NORMALIZE):
        raise ValueError(f"normalize must be {k} of {', '.join(NORMALIZE)}; got {choices}")
    running = torch.full((k,), torch.nan) if running_std is None else running_std
    running = _per_component(running, values, "running_std")
    columns = {
        "group": spread,
        "batch": pooled.expand_as(spread),
        "running": torch.where(running.isnan(), pooled, running).expand_as(spread),
        "none": torch.ones_like(spread),
    }
    return torch.stack([columns[choice][:, i] for i, choice in enumerate(choices)], 1)


def _divide(centred: Tensor, scale: Tensor, floor: float | Tensor, signal: Tensor | None = None) -> Tensor:
    """centred / scale; 0 where abstained, where the group's std (`signal`) is at or below the floor, or unknown."""
    signal = scale if signal is None else signal
    usable = (signal > floor) & (scale > floor)
    return torch.where(usable, centred / torch.where(usable, scale, 1.0), 0.0)
