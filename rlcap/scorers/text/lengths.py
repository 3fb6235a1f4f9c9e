"""Scores of a caption's length, as pure functions of the number of words."""

from __future__ import annotations

BANDS = {"SSC": (10.0, 15.0), "DSC": (40.0, 60.0), "DSC+": (100.0, 250.0)}
"""Format → range of words: short synthetic, dense synthetic, and longer captions (with an upper limit of our own)."""


def ramp(words: int, free: float = 2048, most: float = 3072) -> float:
    """Return 1 up to `free` words, then a linear decrease to 0 at `most` words: 2560 → .5."""
    return max(0.0, min(1.0, (most - words) / (most - free)))


def gate(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> bool:
    """Return whether ρ = words / reference lies in [low, high], ends included; for a reference of 100: 50 … 200."""
    return low * reference <= words <= high * reference


def penalty(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> float:
    """Return 0 inside the gate, and minus the relative distance to it outside, in [-1, 0].

    With ρ = words / reference, the distance is (low − ρ) / low below the gate and (ρ − high) / high above it, at most
    1.
    """
    ratio = words / reference
    if gate(words, reference, low, high):
        return 0.0
    return -min(1.0, (low - ratio) / low if ratio < low else (ratio - high) / high)
