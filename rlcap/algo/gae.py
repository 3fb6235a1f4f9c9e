"""Credit for single tokens: rewards a token, generalised advantage estimation, and whitening over what counts.

    (N, C): N captions of at most C tokens, padded on the right; mask (N, C) is 1 up to and with the last token
    values[:, t]: what the critic expects of the caption before token t is written

A caption that was cut off at the token limit ends like any other: nothing comes after it, and nothing is expected.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float = 1.0) -> Tensor:
    """−coefficient · kl at every token, and the caption's score at its last one (Ziegler et al. 2019, eq. 2). (N, C).

    scores (N,); kl (N, C) in nats, such as `kl.k1`. A caption without tokens gets nothing.
    """
    counts = mask.bool()
    rewards = torch.where(counts, -coefficient * kl, 0.0)
    later = counts.flip(1).cumsum(1).flip(1)
    return rewards + torch.where(counts & (later == 1), scores[:, None].to(rewards.dtype), 0.0)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), (N, C) each, 0 where the mask is; without gradient.

        δ_t = r_t + γ V_{t+1} − V_t;  A_t = δ_t + γ λ A_{t+1};  returns = A + V          V = A = 0 past the last token

    Schulman et al. 2016 (arXiv 1506.02438), eq. 16. λ = 1 compares with what came of the caption, λ = 0 trusts the critic.
    gamma, lam: in [0, 1].
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
    """(3,) float64: how many values count, their sum, the sum of their squares. Add up over processes, then `whiten`."""
    counted = torch.where(mask.bool(), values, 0.0).double()
    return torch.stack([mask.bool().sum().double(), counted.sum(), counted.square().sum()])


def whiten(values: Tensor, mask: Tensor, totals: Tensor | None = None, *, shift: bool = True) -> Tensor:
    """(v − mean) / std over the values that count, 0 elsewhere. (N, C) → (N, C).

    totals: `moments` of all processes' values; of these alone where None. shift: False keeps the mean. Unbiased std; values
    that hardly differ (std ≤ 1e-6) are centred and not divided.
    """
    count, total, squares = moments(values, mask) if totals is None else totals
    mean = total / count.clamp(min=1)
    std = ((squares - count * mean.square()).clamp(min=0) / (count - 1).clamp(min=1)).sqrt()
    scale = torch.where(std > 1e-6, std, torch.ones_like(std))
    white = (values.double() - mean) / scale + (0.0 if shift else mean / scale)
    return torch.where(mask.bool(), white, 0.0).to(values.dtype)
