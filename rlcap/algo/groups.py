"""Statistics within groups of rows (sums, means, stds) in which NaN stands for an abstention.

A row is a caption, and a group holds the captions of one image. Group statistics have one row per caption, so that
callers can subtract them and divide by them without another lookup of groups.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_index(groups: int | Tensor, n: int) -> Tensor:
    """Return (N,) group numbers 0 … G−1.

    Args:
        groups: the length of the runs of rows that form a group, or (N,) ids.
        n: number of rows N.

    Raises:
        ValueError: the rows do not divide into the groups, or there are no rows.
    """
    if isinstance(groups, int):
        if groups < 1 or n == 0 or n % groups:
            raise ValueError(f"{n} captions don't divide into groups of {groups}: pass complete groups")
        return torch.arange(n) // groups
    if groups.shape != (n,):
        raise ValueError(f"group ids must have shape ({n},), got {tuple(groups.shape)}")
    if n == 0:
        raise ValueError("no captions: an advantage needs at least one group")
    index: Tensor = torch.unique(groups.cpu(), return_inverse=True)[1]
    return index


def sum_in_group(rows: Tensor, index: Tensor) -> Tensor:
    """Replace each row by the sum over its group: (N, K) → (N, K)."""
    return torch.zeros(int(index.max()) + 1, rows.shape[1], dtype=rows.dtype).index_add_(0, index, rows)[index]


def any_in_group(flags: Tensor, index: Tensor) -> Tensor:
    """Return for each row whether any flag of its group is set: (N,) → (N,)."""
    return sum_in_group(flags[:, None].double(), index)[:, 0] > 0


def first_rows(index: Tensor) -> Tensor:
    """Return the (G,) rows at which each group first appears, to read a per-group value once."""
    order = torch.argsort(index, stable=True)
    starts = torch.ones(len(order), dtype=torch.bool)
    starts[1:] = index[order][1:] != index[order][:-1]
    return order[starts]


def centre(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract the group's mean from each value.

    The mean is taken over the judged captions, so that the centred values of a group sum to zero.

    Args:
        values: (N, K) values; NaN for an abstention.
        index: (N,) group numbers, as from `group_index`.

    Returns:
        Three (N, K) float64 tensors: the centred values (0 for an abstention), the number of judged captions of the
        group, and the group's unbiased std (NaN with fewer than two judged captions).

    Raises:
        ValueError: a value is infinite.
    """
    values = values.detach().cpu().double()
    if torch.isinf(values).any():
        raise ValueError("a reward value is infinite: scores must be finite, or NaN for an abstention")
    judged = ~values.isnan()
    count = sum_in_group(judged.double(), index)
    filled = torch.where(judged, values, 0.0)
    centred = torch.where(judged, filled - sum_in_group(filled, index) / count.clamp(min=1), 0.0)
    variance = sum_in_group(centred.square(), index) / (count - 1).clamp(min=1)
    return centred, count, torch.where(count >= 2, variance.sqrt(), torch.nan)


def pooled_std(centred: Tensor, count: Tensor, index: Tensor) -> Tensor:
    """Return (K,) sqrt(Σ_g Σ_i (r − mean_g)² / Σ_g (n_g − 1)); NaN where no group has two judged captions."""
    degrees_of_freedom = (count[first_rows(index)] - 1).clamp(min=0).sum(0)
    return torch.where(
        degrees_of_freedom > 0, (centred.square().sum(0) / degrees_of_freedom.clamp(min=1)).sqrt(), torch.nan
    )


def std(values: Tensor) -> Tensor:
    """Return the unbiased std of a vector; NaN with fewer than two values."""
    return values.std() if len(values) > 1 else torch.tensor(torch.nan, dtype=torch.float64)
