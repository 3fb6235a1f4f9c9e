"""Lagrange multipliers: weights of reward terms that are constraints instead of goals.

A constrained problem "maximise the other terms subject to E[r_k] ≥ target_k" has the Lagrangian Σ r + Σ_k μ_k (r_k − target_k)
with μ_k ≥ 0. Dual ascent raises μ_k while the constraint is violated and lowers it while there is room (Altman 1999; Ray et al. 2019,
https://cdn.openai.com/safexp-short.pdf, §4). A term whose target is met costs the other terms nothing in the end.
"""

from __future__ import annotations

import math


def update_multiplier(multiplier: float, mean: float, target: float, std: float, rate: float, largest: float) -> float:
    """Return the multiplier after one round: clip(μ + rate · (target − mean) / std, 0, largest).

    The shortfall is measured in stds of the term, as its advantage is, so that one rate suits terms of any unit. A shortfall of half
    a std with rate .1 raises a multiplier of 1 to 1.05.

    Args:
        multiplier: μ, 0 or more.
        mean: mean of the term over the captions of the round; NaN (all abstained) changes nothing.
        target: smallest mean that the constraint allows.
        std: std of the term over captions; where it is NaN or 0, nothing changes.
        rate: step of the dual ascent, above 0.
        largest: bound of the multiplier.
    """
    if math.isnan(mean) or math.isnan(std) or std <= 0:
        return multiplier
    return min(max(multiplier + rate * (target - mean) / std, 0.0), largest)
