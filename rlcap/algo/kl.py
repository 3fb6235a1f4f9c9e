"""The distance from the reference model: estimators a token, a caption's sum, and a coefficient that holds it to a target.

    log_probs, ref_log_probs (N, C): of the sampled tokens, in nats, by the policy and by the reference
    mask (N, C): 1 where a token counts

Averaged over captions that the policy wrote, each estimator is KL(policy ‖ reference) or near it (Schulman,
"Approximating KL Divergence", 2020). With d = log π − log π_ref of a token:

    k1 = d                    unbiased, may be negative
    k2 = d² / 2               biased, never negative; its gradient is the KL's own
    k3 = exp(−d) + d − 1      unbiased, never negative, less variance; what TRL's loss uses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor


def k1(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """log π − log π_ref, (N, C) in nats."""
    return log_probs - ref_log_probs


def k2(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """(log π − log π_ref)² / 2, (N, C), 0 or more."""
    return (log_probs - ref_log_probs).square() / 2


def k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """π_ref/π − 1 − log(π_ref/π), (N, C), 0 or more."""
    difference = ref_log_probs - log_probs
    return difference.exp() - difference - 1


def sequence_kl(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> Tensor:
    """Σ_t k1 of each caption, (N,) in nats, without gradient: what MOCHa takes .06 of off the reward.

    Not divided by the length, so a long caption pays more than a short one of the same tokens.
    """
    return (k1(log_probs, ref_log_probs).detach() * mask).sum(1)


@dataclass(frozen=True, slots=True)
class AdaptiveKL:
    """A KL coefficient that is raised where captions lie farther from the reference than wanted, and lowered where nearer.

        e = clip(KL / target − 1, −.2, .2);  coefficient ← coefficient · (1 + gain · e)

    Ziegler et al. 2019 (arXiv 1909.08593), section 2.2, with KL the mean over a round's captions of their sums.
    """

    coefficient: float
    """β, above 0: what a nat costs."""
    target: float
    """Nats a caption, above 0."""
    gain: float = 0.1
    """K_β, above 0: a round can change the coefficient by a fifth of it at most."""

    def observe(self, kl: float) -> AdaptiveKL:
        """The controller after a round whose captions were `kl` nats from the reference on average."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        return replace(self, coefficient=self.coefficient * (1 + self.gain * error))

    def to_dict(self) -> dict[str, float]:
        """JSON-able, for checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> AdaptiveKL:
        return cls(**{name: float(value) for name, value in state.items()})
