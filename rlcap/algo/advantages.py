"""From component rewards to advantages: pure tensor functions that know abstentions.

    values (N, K): one row a caption, one column a component, NaN where the component abstained
    groups: captions of one image belong together; an int G (rows lie in runs of G) or (N,) ids

`combine` is what the trainers call. Its default is GDPO (BalCapRL's c-GDPO, TRL's `normalize_then_sum`):

    z_ik = (r_ik − mean_group r_k) / scale_k        0 where component k abstained on caption i
    A_i  = Σ_k w_k z_ik / std_batch(Σ_k w_k z_k)

Two things differ from TRL's arithmetic, both on purpose. An abstention is neutral: means are taken over the captions
that were judged, so that their z sum to zero and the abstained caption's contribution is exactly zero (TRL's
`sum_then_normalize` counts a missing component as the value 0 and pushes the caption down). And a group whose std is
below a floor says nothing rather than noise: numerical residue (NeMo-RL#4161: std 1.6e-4) is not blown up to unit size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Normalize = Literal["group", "batch", "running", "none"]
Aggregate = Literal["normalize_then_sum", "sum_then_normalize", "sum_then_center"]
NORMALIZE = ("group", "batch", "running", "none")
AGGREGATE = ("normalize_then_sum", "sum_then_normalize", "sum_then_center")
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
    dead_share_by_component: Tensor
    """(K,) share of groups to which the component gave no signal."""
    dead_share: float
    """Share of groups without any advantage: they cost compute and teach nothing."""


def group_mean_std(rewards: Tensor, groups: int | Tensor, *, floor: float = FLOOR) -> Tensor:
    """(r − mean) / std within the group, unbiased std (GRPO, DeepSeekMath eq. 3). (N,) → (N,).

    Rewards (1, 0, 0, 0) → (1.5, −.5, −.5, −.5). NaN rewards and groups with std ≤ `floor` give 0.
    """
    centred, std, judged = _centre(rewards[:, None], _group_index(groups, len(rewards)))
    return _divide(centred, std, judged, floor)[:, 0].to(torch.float32)


def group_mean(rewards: Tensor, groups: int | Tensor) -> Tensor:
    """r − mean within the group, unscaled (MOCHa; Dr. GRPO). (N,) → (N,). NaN rewards give 0."""
    centred, _, _ = _centre(rewards[:, None], _group_index(groups, len(rewards)))
    return centred[:, 0].to(torch.float32)


def combine(
    values: Tensor,
    weights: Tensor | Sequence[float],
    groups: int | Tensor,
    *,
    normalize: Normalize | Sequence[Normalize] = "group",
    aggregate: Aggregate = "normalize_then_sum",
    whiten: bool = True,
    spans: Tensor | Sequence[float] | None = None,
    running_std: Tensor | Sequence[float] | None = None,
    floor: float = FLOOR,
) -> Advantages:
    """Component rewards → one advantage a caption.

    values (N, K), NaN = abstained. weights (K,). groups as in the module docstring.

    normalize: per component (or one for all) what its centred value is divided by: `group` its std within the group,
      `batch` its pooled within-group std over this batch, `running` the same over past steps (`running_std`, (K,); NaN
      where unknown falls back to `batch`), `none` nothing. The baseline is always the group's mean.
    aggregate: `normalize_then_sum` (GDPO) as in the module docstring. `sum_then_normalize` (GRPO, TRL's default) and
      `sum_then_center` (MOCHa, Dr. GRPO) add the raw components first and then apply `group_mean_std` or `group_mean`;
      they know no `normalize` and no `whiten`. There an abstained component takes the mean of its judged siblings (or
      is left out for the whole group), which is what makes it neutral in a sum.
    whiten: divide by the std of the advantages over the captions of groups that carry signal (TRL divides by that of all
      captions, so a few live groups among many dead ones grow by sqrt(all / live)). No mean is subtracted: groups
      already sum to zero.
    spans: (K,) width of each component's range, in whose units `floor` is meant; 1 where unknown or infinite.

    Raises ValueError on shapes that don't match and on unknown choices.
    """
    index = _group_index(groups, len(values))
    if values.ndim != 2:
        raise ValueError(f"values must be (captions, components), got shape {tuple(values.shape)}")
    weights = _per_component(weights, values, "weights")
    spans = _per_component(spans if spans is not None else [1.0] * values.shape[1], values, "spans")
    spans = torch.where(torch.isfinite(spans) & (spans > 0), spans, torch.ones_like(spans))
    centred, std, judged = _centre(values, index)
    pooled = _pooled_std(centred, judged, index)

    if aggregate == "normalize_then_sum":
        scale = _scales(normalize, values, std, pooled, running_std)
        parts = _divide(centred, scale, judged, floor * spans, signal=std) * weights
        advantages = parts.sum(1)
    elif aggregate in AGGREGATE:
        # In a group where a component judged nobody its centred values are all zero: it is left out.
        parts = centred * weights
        advantages = parts.sum(1)
        if aggregate == "sum_then_normalize":
            # A caption that nobody judged has no total; it must not count in its group's std either.
            total = torch.where(judged.any(1), advantages, torch.nan)
            advantages = group_mean_std(total, index, floor=floor * float((weights.abs() * spans).max())).double()
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}; choose one of {', '.join(AGGREGATE)}")

    live = _any_in_group(advantages.abs() > 0, index)
    if whiten and aggregate == "normalize_then_sum" and live.sum() > 1:
        spread = advantages[live].std()
        if spread > FLOOR * weights.abs().sum():
            advantages = advantages / spread
    first = _first_rows(index)
    part_live = torch.stack([_any_in_group(column.abs() > 0, index) for column in parts.T], 1)
    return Advantages(
        advantages=advantages.to(torch.float32),
        contributions=parts.to(torch.float32),
        std_within_group=torch.nanmean(std[first], 0),
        std_batch=torch.stack([_std(column[~column.isnan()]) for column in values.detach().cpu().double().T]),
        std_pooled=pooled,
        dead_share_by_component=1 - part_live[first].double().mean(0),
        dead_share=1 - float(live[first].double().mean()),
    )


def _group_index(groups: int | Tensor, n: int) -> Tensor:
    """(N,) group numbers 0 … G−1. Raises ValueError where rows and groups don't match."""
    if isinstance(groups, int):
        if groups < 1 or n == 0 or n % groups:
            raise ValueError(f"{n} captions don't divide into groups of {groups}: pass whole groups")
        return torch.arange(n) // groups
    if groups.shape != (n,):
        raise ValueError(f"group ids must have shape ({n},), got {tuple(groups.shape)}")
    if n == 0:
        raise ValueError("no captions: an advantage needs at least one group")
    return torch.unique(groups.cpu(), return_inverse=True)[1]


def _per_component(given: Tensor | Sequence[float], values: Tensor, name: str) -> Tensor:
    row = torch.as_tensor(given, dtype=torch.float64).cpu()
    if row.shape != (values.shape[1],):
        raise ValueError(f"{name} must have one entry for each of {values.shape[1]} components, got {tuple(row.shape)}")
    return row


def _sum_in_group(rows: Tensor, index: Tensor) -> Tensor:
    """(N, K) → (N, K): each row gets its group's sum."""
    return torch.zeros(int(index.max()) + 1, rows.shape[1], dtype=rows.dtype).index_add_(0, index, rows)[index]


def _any_in_group(flags: Tensor, index: Tensor) -> Tensor:
    return _sum_in_group(flags[:, None].double(), index)[:, 0] > 0


def _first_rows(index: Tensor) -> Tensor:
    """(G,) the row at which each group first appears, to read a per-group value once."""
    order = torch.argsort(index, stable=True)
    starts = torch.ones(len(order), dtype=torch.bool)
    starts[1:] = index[order][1:] != index[order][:-1]
    return order[starts]


def _centre(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, K) → centred (0 where abstained), unbiased group std (NaN below two judged captions), judged mask."""
    values = values.detach().cpu().double()
    if torch.isinf(values).any():
        raise ValueError("a reward value is infinite: scores must be finite, or NaN for an abstention")
    judged = ~values.isnan()
    count = _sum_in_group(judged.double(), index)
    filled = torch.where(judged, values, 0.0)
    centred = torch.where(judged, filled - _sum_in_group(filled, index) / count.clamp(min=1), 0.0)
    variance = _sum_in_group(centred.square(), index) / (count - 1).clamp(min=1)
    return centred, torch.where(count >= 2, variance.sqrt(), torch.nan), judged


def _pooled_std(centred: Tensor, judged: Tensor, index: Tensor) -> Tensor:
    first = _first_rows(index)
    freedom = (_sum_in_group(judged.double(), index)[first] - 1).clamp(min=0).sum(0)
    return torch.where(freedom > 0, (centred.square().sum(0) / freedom.clamp(min=1)).sqrt(), torch.nan)


def _scales(
    normalize: Normalize | Sequence[Normalize],
    values: Tensor,
    std: Tensor,
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
        "group": std,
        "batch": pooled.expand_as(std),
        "running": torch.where(running.isnan(), pooled, running).expand_as(std),
        "none": torch.ones_like(std),
    }
    return torch.stack([columns[choice][:, i] for i, choice in enumerate(choices)], 1)


def _divide(
    centred: Tensor, scale: Tensor, judged: Tensor, floor: float | Tensor, signal: Tensor | None = None
) -> Tensor:
    """centred / scale; 0 where abstained, where the group's std (`signal`) is at or below the floor, or unknown."""
    signal = scale if signal is None else signal
    usable = judged & (signal > floor) & (scale > floor)
    return torch.where(usable, centred / torch.where(usable, scale, 1.0), 0.0)


def _std(values: Tensor) -> Tensor:
    return values.std() if len(values) > 1 else torch.tensor(torch.nan, dtype=torch.float64)
