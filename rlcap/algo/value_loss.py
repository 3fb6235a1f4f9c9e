"""The loss of the value model: a squared error that limits how far the values move in one round."""

from __future__ import annotations

import torch
from torch import Tensor


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = None) -> Tensor:
    """Return ½ max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²) of each token, (N, C), with gradient to `values`.

    This is PPO2's clipped value loss (baselines; Engstrom et al. 2020, arXiv 2005.12729, section 2). The caller masks
    and averages it, as it does with the policy's loss.

    Args:
        values: (N, C) values V under the current weights.
        old_values: (N, C) values V_old at the start of the round.
        returns: (N, C) returns R.
        clip: above 0, in units of the values; None leaves the plain squared error.
    """
    errors = (values - returns).square()
    if clip is not None:
        clipped = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (clipped - returns).square())
    return errors / 2


def explained_variance(errors: Tensor, returns: Tensor) -> float:
    """Return 1 − Var(R − V) / Var(R).

    1 means perfect predictions, 0 predictions that carry no information, and below 0 predictions worse than a constant.

    Args:
        errors: (3,) `rlcap.algo.gae.moments` of R − V, summed over processes.
        returns: (3,) `rlcap.algo.gae.moments` of R, summed over processes.

    Returns:
        The share of explained variance; NaN where the returns do not differ.
    """
    error_variance, return_variance = (
        squares / count - (total / count) ** 2 for count, total, squares in (errors.tolist(), returns.tolist())
    )
    return 1 - error_variance / return_variance if return_variance > 0 else float("nan")
