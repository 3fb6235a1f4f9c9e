"""Statistics within groups of rows that know abstentions (NaN): sums, means, stds.

Rows are captions, a group is the captions of one image. Group statistics come back as one row a caption, so that they can be
subtracted and divided without looking groups up again.
"""

from __future__ import annotations

import torch
from torch import Tensor


def group_index(groups: int | Tensor, n: int) -> Tensor:
    """(N,) group numbers 0 … G−1, from the length of a run or from ids. ValueError where rows and groups don't match."""
    if isinstance(groups, int):
        if groups < 1 or n == 0 or n % groups:
            raise ValueError(f"{n} captions don't divide into groups of {groups}: pass whole groups")
        return torch.arange(n) // groups
    if groups.shape != (n,):
        raise ValueError(f"group ids must have shape ({n},), got {tuple(groups.shape)}")
    if n == 0:
        raise ValueError("no captions: an advantage needs at least one group")
    return torch.unique(groups.cpu(), return_inverse=True)[1]


def sum_in_group(rows: Tensor, index: Tensor) -> Tensor:
    """(N, K) → (N, K): each row gets its group's sum."""
    return torch.zeros(int(index.max()) + 1, rows.shape[1], dtype=rows.dtype).index_add_(0, index, rows)[index]


def any_in_group(flags: Tensor, index: Tensor) -> Tensor:
    """(N,) → (N,): whether the flag of any row of the group is set."""
    return sum_in_group(flags[:, None].double(), index)[:, 0] > 0


def first_rows(index: Tensor) -> Tensor:
    """(G,) the row at which each group first appears, to read a per-group value once."""
    order = torch.argsort(index, stable=True)
    starts = torch.ones(len(order), dtype=torch.bool)
    starts[1:] = index[order][1:] != index[order][:-1]
    return order[starts]


def centre(values: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, K), NaN where abstained → values less their group's mean (0 where abstained), the number of judged captions of
    the group, and the group's unbiased std (NaN below two judged captions); float64, (N, K) each.

    The mean is that of the judged captions, so that the centred values of a group sum to zero. ValueError where a value
    is infinite.
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
    """(K,) sqrt(Σ_g Σ_i (r − mean_g)² / Σ_g (n_g − 1)); NaN where no group has two judged captions."""
    freedom = (count[first_rows(index)] - 1).clamp(min=0).sum(0)
    return torch.where(freedom > 0, (centred.square().sum(0) / freedom.clamp(min=1)).sqrt(), torch.nan)


def std(values: Tensor) -> Tensor:
    """Unbiased std of a vector; NaN below two values."""
    return values.std() if len(values) > 1 else torch.tensor(torch.nan, dtype=torch.float64)
