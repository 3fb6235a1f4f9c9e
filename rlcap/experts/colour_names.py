"""Names of colours, by arithmetic alone: the eleven basic colour terms of English (Berlin and Kay, 1969).

A pixel gets the name whose prototypes are nearest to it in CIELAB, with the distance of CIE 1976 (ΔE*ab). The conversion from sRGB is
that of IEC 61966-2-1 with the white point D65. A few terms need several prototypes, because their regions are not balls: brown is dark
orange, and pink reaches from salmon to magenta.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PROTOTYPES: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((0, 0, 0), (25, 25, 28)),
    "white": ((255, 255, 255), (240, 240, 238)),
    "grey": ((128, 128, 128), (80, 80, 82), (180, 180, 180)),
    "red": ((255, 0, 0), (178, 24, 30), (220, 40, 40)),
    "green": ((0, 128, 0), (0, 220, 0), (60, 120, 50), (130, 180, 60), (30, 70, 30)),
    "blue": ((0, 0, 255), (30, 60, 200), (0, 0, 139), (80, 150, 220), (20, 30, 90), (135, 206, 235)),
    "yellow": ((255, 255, 0), (240, 210, 40), (250, 230, 120)),
    "orange": ((255, 140, 0), (245, 110, 20), (255, 165, 60)),
    "brown": ((110, 60, 25), (80, 45, 25), (150, 95, 55)),
    "pink": ((255, 150, 190), (255, 192, 203), (235, 80, 150)),
    "purple": ((128, 0, 128), (75, 0, 130), (138, 43, 226), (160, 90, 200)),
}
"""Colour term → prototypes in sRGB, 0 to 255."""
NAMES = tuple(PROTOTYPES)

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """Return sRGB values (…, 3) from 0 to 255 in CIELAB (…, 3)."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


_LAB = to_lab(np.array([colour for prototypes in PROTOTYPES.values() for colour in prototypes]))
_OWNER = np.array([index for index, prototypes in enumerate(PROTOTYPES.values()) for _ in prototypes])


def name_colours(rgb: np.ndarray) -> list[tuple[str, float]]:
    """Return the colours of pixels with their shares, the largest first.

    Args:
        rgb: (N, 3) values in sRGB, 0 to 255, with N ≥ 1.

    Returns:
        Pairs of a colour term and the share of pixels that have it, in (0, 1]. The shares add up to 1.
    """
    distances = ((to_lab(rgb)[:, None, :] - _LAB[None]) ** 2).sum(-1)
    counts = np.bincount(_OWNER[distances.argmin(1)], minlength=len(NAMES))
    order = sorted(range(len(NAMES)), key=lambda i: (-counts[i], i))
    return [(NAMES[i], float(counts[i] / len(rgb))) for i in order if counts[i]]
