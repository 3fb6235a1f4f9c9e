"""Credit for single tokens: per-token rewards, generalised advantage estimation, and whitening over a mask.

    (N, C): N captions of at most C tokens, padded on the right; mask (N, C) is 1 up to and including the last token
    values[:, t]: the return that the value model expects before token t is written

A caption that was cut off at the token limit ends like any other caption: no reward comes after it, and none is
expected.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float = 1.0) -> Tensor:
    """Return −coefficient · kl at every token, plus the caption's score at its last token (Ziegler et al. 2019, eq. 2).

    Args:
        scores: (N,) score of each caption.
        kl: (N, C) KL estimates in nats, for example `kl.k1`.
        mask: (N, C), 1 where a token counts.
        coefficient: β, the price of one nat.

    Returns:
        (N, C) rewards, 0 where the mask is 0. A caption without tokens gets no reward at all.
    """
    counts = mask.bool()
    rewards = torch.where(counts, -coefficient * kl, 0.0)
    later = counts.flip(1).cumsum(1).flip(1)
    return rewards + torch.where(counts & (later == 1), scores[:, None].to(rewards.dtype), 0.0)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Compute generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16), without gradient.

        δ_t = r_t + γ V_{t+1} − V_t;  A_t = δ_t + γ λ A_{t+1};  returns = A + V          V = A = 0 past the last token

    Args:
        rewards: (N, C) reward of each token.
        values: (N, C) values of the value model.
        mask: (N, C), 1 where a token counts.
        gamma: discount γ in [0, 1].
        lam: λ in [0, 1]. 1 uses only the rewards that the caption really got; 0 trusts the value model after one token.

    Returns:
        (advantages, returns), (N, C) each, 0 where the mask is 0.
    """
    counts = mask.bool()
    rewards, values = (torch.where(counts, x.detach(), 0.0) for x in (rewards, values))
    advantages = torch.zeros_like(values)
    following, expected = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * expected - values[:, t]
        following = torch.where(counts[:, t], delta + gamma * lam * following, 0.0)
        advantages[:, t], expected = following, values[:, t]
    return advantages, advantages + values


def moments(values: Tensor, mask: Tensor) -> Tensor:
    """Return (3,) float64: the number of masked-in values, their sum, and the sum of their squares.

    The moments of several processes can be added before they are passed to `whiten`.
    """
    counted = torch.where(mask.bool(), values, 0.0).double()
    return torch.stack([mask.bool().sum().double(), counted.sum(), counted.square().sum()])


def whiten(values: Tensor, mask: Tensor, totals: Tensor | None = None, *, shift: bool = True) -> Tensor:
    """Return (v − mean) / std over the values that the mask keeps, 0 elsewhere: (N, C) → (N, C).

    The std is unbiased. Values that hardly differ (std ≤ 1e-6) are centred and not divided.

    Args:
        values: (N, C) values.
        mask: (N, C), 1 where a value counts.
        totals: `moments` summed over all processes; None uses the moments of `values`.
        shift: False keeps the mean and only scales.
    """
    count, total, squares = moments(values, mask) if totals is None else totals
    mean = total / count.clamp(min=1)
    std = ((squares - count * mean.square()).clamp(min=0) / (count - 1).clamp(min=1)).sqrt()
    scale = torch.where(std > 1e-6, std, torch.ones_like(std))
    white = (values.double() - mean) / scale + (0.0 if shift else mean / scale)
    return torch.where(mask.bool(), white, 0.0).to(values.dtype)
