"""How long a caption should be, and what another length costs. Pure functions of numbers of words."""

from __future__ import annotations

BANDS = {"SSC": (10.0, 15.0), "DSC": (40.0, 60.0), "DSC+": (100.0, 250.0)}
"""Format → words: short synthetic, dense synthetic, and longer ones, to which an end is set here."""


def ramp(words: int, free: float = 2048, most: float = 3072) -> float:
    """1 up to `free` words, in a line to 0 at `most`: 2560 → .5."""
    return max(0.0, min(1.0, (most - words) / (most - free)))


def gate(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> bool:
    """Whether ρ lies in [low, high], both ends included. For 100 words: 50 … 200."""
    return low * reference <= words <= high * reference


def penalty(words: int, reference: float, low: float = 0.5, high: float = 2.0) -> float:
    """0 inside the gate; outside it the distance to it, as a share of what there is below (low) or of high above."""
    ratio = words / reference
    if gate(words, reference, low, high):
        return 0.0
    return -min(1.0, (low - ratio) / low if ratio < low else (ratio - high) / high)
