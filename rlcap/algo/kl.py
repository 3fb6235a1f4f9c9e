"""KL divergence from the reference model: estimators per token, the sum over a caption, and an adaptive coefficient.

    log_probs, ref_log_probs (N, C): log-probabilities of the sampled tokens in nats, under the policy and the reference
    mask (N, C): 1 where a token counts

Averaged over captions that the policy wrote, each estimator equals KL(policy ‖ reference) or approximates it (Schulman,
"Approximating KL Divergence", 2020). With d = log π − log π_ref of a token:

    k1 = d                    unbiased, may be negative
    k2 = d² / 2               biased, never negative; its gradient is the gradient of the KL
    k3 = exp(−d) + d − 1      unbiased, never negative, lower variance; DeepSeekMath (arXiv 2402.03300), equation 4

As a term of a loss, k3 has a biased gradient: 1 − exp(−d), which is −6.39 at d = −2. TRL (1.16) multiplies it by the probability
ratio, so that the expected gradient is that of the KL, d: −2.00. `train.kl=loss` is TRL's form and `loss_k3` the plain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor


def k1(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Return log π − log π_ref, (N, C) in nats."""
    return log_probs - ref_log_probs


def k2(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Return (log π − log π_ref)² / 2, (N, C), 0 or more."""
    return (log_probs - ref_log_probs).square() / 2


def k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Return π_ref/π − 1 − log(π_ref/π), (N, C), 0 or more."""
    difference = ref_log_probs - log_probs
    return difference.exp() - difference - 1


def sequence_kl(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Return Σ_t k1 of each caption, (N,) in nats, without gradient.

    MOCHa subtracts .06 times this sum from the reward. The sum is not divided by the length, so a long caption pays
    more than a short one.
    """
    return (k1(log_probs, ref_log_probs).detach() * mask).sum(1)


@dataclass(frozen=True, slots=True)
class AdaptiveKL:
    """A KL coefficient that rises when the KL of captions is above a target, and falls when it is below.

        e = clip(KL / target − 1, −.2, .2);  coefficient ← coefficient · (1 + gain · e)

    The rule is that of Ziegler et al. 2019 (arXiv 1909.08593), section 2.2. KL is `sequence_kl`, averaged over the
    captions of a round.
    """

    coefficient: float
    """β, above 0: the price of one nat."""
    target: float
    """Target KL in nats per caption, above 0."""
    gain: float = 0.1
    """K_β, above 0; one round changes the coefficient by at most the share K_β / 5."""

    def observe(self, kl: float) -> AdaptiveKL:
        """Return the controller after a round with a mean KL of `kl` nats per caption."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        return replace(self, coefficient=self.coefficient * (1 + self.gain * error))

    def to_dict(self) -> dict[str, float]:
        """Return the state as JSON-compatible values, for checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> AdaptiveKL:
        """Restore a controller from the state that `to_dict` returned."""
        return cls(**{name: float(value) for name, value in state.items()})
