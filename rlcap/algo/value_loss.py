"""What the critic learns: its values are pulled to the returns, each round no farther than a clip from where it stood."""

from __future__ import annotations

import torch
from torch import Tensor


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None = None) -> Tensor:
    """½ max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²) of each token, (N, C), with gradient to `values`.

    PPO2's clipped value loss (baselines; Engstrom et al. 2020, arXiv 2005.12729, section 2). clip: above 0, in units of the
    values; None leaves the plain squared error. The caller masks and averages, as it does with the policy's loss.
    """
    errors = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns).square())
    return errors / 2


def explained_variance(errors: Tensor, returns: Tensor) -> float:
    """1 − Var(R − V) / Var(R): 1 where the critic knows, 0 where it says nothing, below 0 where it misleads.

    errors, returns: (3,) each, the `rlcap.algo.gae.moments` of R − V and of R, summed over processes. NaN where the returns
    don't differ.
    """
    of_errors, of_returns = (
        squares / count - (total / count) ** 2 for count, total, squares in (errors.tolist(), returns.tolist())
    )
    return 1 - of_errors / of_returns if of_returns > 0 else float("nan")
