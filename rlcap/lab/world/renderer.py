"""Draws a scene, as a pure function of (scene, seed).

Silhouettes are drawn four times too large and then reduced, for smooth edges. Jitter, rotation, uneven light, texture,
noise and overlap make the images hard enough that a model must learn to recognise them.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from rlcap.lab.world.scene import Scene, Thing
from rlcap.lab.world.vocabulary import cell_of

SIDE = 96
"""Pixels along each side of a lab image."""
_SCALE = 4
_PIXELS = {"small": 18.0, "medium": 26.0, "large": 36.0}
_JITTER = 8.0
"""Maximum distance in pixels of a thing from the middle of its place, in each direction; neighbours may overlap."""
_RGB = {
    "red": (212, 40, 40), "orange": (240, 140, 30), "yellow": (245, 225, 60), "green": (40, 160, 70),
    "blue": (45, 90, 215), "purple": (150, 60, 180), "white": (246, 246, 246), "black": (28, 28, 32),
}  # fmt: skip
_GROUND = {
    "grass": (120, 165, 95), "sand": (214, 196, 150), "water": (110, 165, 190),
    "snow": (216, 222, 230), "brick": (168, 112, 96), "wood": (158, 124, 88),
}  # fmt: skip


def _polygon(points: list[tuple[float, float]]):
    return lambda draw, s: draw.polygon([(x * s, y * s) for x, y in points], fill=255)


def _ellipse(x0: float, y0: float, x1: float, y1: float):
    return lambda draw, s: draw.ellipse((x0 * s, y0 * s, x1 * s, y1 * s), fill=255)


def _star(points: int, inner: float) -> list[tuple[float, float]]:
    radius = [0.48 if k % 2 == 0 else inner for k in range(2 * points)]
    return [
        (0.5 + r * math.sin(math.pi * k / points), 0.5 - r * math.cos(math.pi * k / points))
        for k, r in enumerate(radius)
    ]


_SHAPES = {
    "ball": [_ellipse(0.06, 0.06, 0.94, 0.94)],
    "box": [_polygon([(0.1, 0.14), (0.9, 0.14), (0.9, 0.9), (0.1, 0.9)])],
    "star": [_polygon(_star(5, 0.2))],
    "heart": [
        _ellipse(0.05, 0.1, 0.53, 0.58), _ellipse(0.47, 0.1, 0.95, 0.58),
        _polygon([(0.09, 0.45), (0.91, 0.45), (0.5, 0.95)]),
    ],
    "tree": [
        _polygon([(0.5, 0.02), (0.9, 0.42), (0.1, 0.42)]), _polygon([(0.5, 0.22), (0.96, 0.74), (0.04, 0.74)]),
        _polygon([(0.42, 0.7), (0.58, 0.7), (0.58, 0.98), (0.42, 0.98)]),
    ],
    "house": [
        _polygon([(0.5, 0.03), (0.98, 0.46), (0.02, 0.46)]),
        _polygon([(0.14, 0.44), (0.86, 0.44), (0.86, 0.96), (0.62, 0.96), (0.62, 0.66), (0.38, 0.66), (0.38, 0.96), (0.14, 0.96)]),
    ],
    "car": [
        _polygon([(0.02, 0.48), (0.22, 0.46), (0.34, 0.24), (0.7, 0.24), (0.82, 0.46), (0.98, 0.5), (0.98, 0.72), (0.02, 0.72)]),
        _ellipse(0.12, 0.6, 0.36, 0.86), _ellipse(0.64, 0.6, 0.88, 0.86),
    ],
    "boat": [
        _polygon([(0.02, 0.66), (0.98, 0.66), (0.8, 0.94), (0.2, 0.94)]), _polygon([(0.46, 0.04), (0.46, 0.6), (0.1, 0.6)]),
        _polygon([(0.54, 0.14), (0.54, 0.6), (0.9, 0.6)]), _polygon([(0.46, 0.04), (0.54, 0.04), (0.54, 0.7), (0.46, 0.7)]),
    ],
    "fish": [_ellipse(0.02, 0.26, 0.74, 0.76), _polygon([(0.64, 0.5), (0.98, 0.2), (0.98, 0.8)])],
    "bird": [
        _polygon([(0.0, 0.3), (0.3, 0.24), (0.5, 0.5), (0.7, 0.24), (1.0, 0.3), (0.72, 0.46), (0.5, 0.82), (0.28, 0.46)]),
    ],
    "lamp": [
        _polygon([(0.3, 0.04), (0.7, 0.04), (0.92, 0.5), (0.08, 0.5)]),
        _polygon([(0.45, 0.48), (0.55, 0.48), (0.55, 0.86), (0.45, 0.86)]), _ellipse(0.24, 0.82, 0.76, 0.98),
    ],
    "flower": [
        *[_ellipse(0.5 + 0.3 * math.cos(a) - 0.19, 0.5 + 0.3 * math.sin(a) - 0.19,
                   0.5 + 0.3 * math.cos(a) + 0.19, 0.5 + 0.3 * math.sin(a) + 0.19)
          for a in (k * math.tau / 6 for k in range(6))],
        _ellipse(0.32, 0.32, 0.68, 0.68),
    ],
    "cup": [
        _polygon([(0.08, 0.16), (0.7, 0.16), (0.6, 0.92), (0.18, 0.92)]),
        _polygon([(0.66, 0.24), (0.97, 0.24), (0.9, 0.66), (0.6, 0.66), (0.62, 0.56), (0.82, 0.56), (0.86, 0.36), (0.66, 0.36)]),
    ],
    "kite": [
        _polygon([(0.5, 0.0), (0.86, 0.36), (0.5, 0.78), (0.14, 0.36)]),
        _polygon([(0.47, 0.74), (0.53, 0.74), (0.62, 0.86), (0.5, 0.99), (0.44, 0.95), (0.52, 0.86)]),
    ],
}  # fmt: skip


def _ground(name: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a textured background, (SIDE, SIDE, 3) float in 0–255."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    coarse = rng.normal(0, 1, (SIDE // 8, SIDE // 8)).astype(np.float32)
    blotches = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    phase, tilt = rng.uniform(0, math.tau), rng.uniform(-0.06, 0.06)
    match name:
        case "grass":
            blades = np.asarray(
                Image.fromarray(rng.normal(0, 1, (SIDE // 6, SIDE)).astype(np.float32)).resize((SIDE, SIDE))
            )
            texture = 11 * blades + 7 * blotches
        case "sand":
            texture = 10 * rng.normal(0, 1, (SIDE, SIDE)) + 6 * blotches
        case "water":
            texture = 15 * np.sin(0.55 * y + 1.6 * np.sin(0.09 * x + phase) + tilt * x) + 4 * blotches
        case "snow":
            texture = 7 * blotches + 3 * rng.normal(0, 1, (SIDE, SIDE))
        case "brick":
            row = ((y + 40 * phase) // 9).astype(int)
            mortar = ((y + 40 * phase) % 9 < 1.5) | ((x + 9 * (row % 2) + 20 * phase) % 18 < 1.5)
            texture = np.where(mortar, 34.0, -6.0) + 6 * blotches
        case "wood":
            texture = 12 * np.sin(0.32 * (y + tilt * 3 * x) + 2.4 * blotches * 0.4 + phase) + 5 * rng.normal(
                0, 1, (SIDE, 1)
            )
        case _:
            raise ValueError(f"unknown background {name!r}; known: {sorted(_GROUND)}")
    return np.asarray(_GROUND[name], np.float32) + texture[..., None].astype(np.float32)


def _sprite(thing: Thing, pixels: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one thing at the final resolution: colour (h, w, 3) in 0–255, and alpha (h, w) in [0, 1]."""
    side = round(pixels * _SCALE)
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    for part in _SHAPES[thing.kind]:
        part(draw, side)
    colour = np.clip(np.asarray(_RGB[thing.colour], np.float32) + rng.normal(0, 9, 3), 0, 255)
    other = np.clip(colour * 0.42 if colour.mean() > 95 else colour * 0.5 + 128, 0, 255)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / _SCALE
    if thing.fill == "striped":
        second = ((x + y) % 6.4) < 2.7
    elif thing.fill == "dotted":
        second = ((x % 6.2 - 3.1) ** 2 + (y % 6.2 - 3.1) ** 2) < 3.0
    else:
        second = np.zeros((side, side), bool)
    paint = np.where(second[..., None], other, colour)
    edge = np.asarray(mask) > 0
    rgba = np.dstack([paint, np.where(edge, 255, 0)]).astype(np.uint8)
    image = Image.fromarray(rgba, "RGBA").rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, expand=True)
    size = max(2, round(image.width / _SCALE))
    small = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    return small[..., :3], small[..., 3] / 255.0


def draw(scene: Scene, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns:
        The pixels, (SIDE, SIDE, 3) uint8, and the owner of each pixel, (SIDE, SIDE) int8: the index of the visible
        thing, or −1 for the background.
    """
    rng = np.random.default_rng(seed)
    canvas = _ground(scene.background, rng)
    owner = np.full((SIDE, SIDE), -1, np.int8)
    cell = SIDE / 3
    for index, thing in enumerate(scene.things):
        colour, alpha = _sprite(thing, _PIXELS[thing.size] * rng.uniform(0.92, 1.08), rng)
        column, row = cell_of(thing.place)
        half = alpha.shape[0] / 2
        left = round((column + 0.5) * cell + rng.uniform(-_JITTER, _JITTER) - half)
        top = round((row + 0.5) * cell + rng.uniform(-_JITTER, _JITTER) - half)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + alpha.shape[1], SIDE), min(top + alpha.shape[0], SIDE)
        a = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
        owner[y0:y1, x0:x1][a[..., 0] > 0.5] = index
        canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - a) + colour[y0 - top : y1 - top, x0 - left : x1 - left] * a
    light = 1 + rng.uniform(-0.10, 0.10) + rng.uniform(-0.08, 0.08) * np.linspace(-1, 1, SIDE)[None, :, None]
    canvas = canvas * light + rng.normal(0, 6, canvas.shape)
    return np.clip(canvas, 0, 255).astype(np.uint8), owner


def render(scene: Scene, seed: int) -> Image.Image:
    """Draw a scene as an RGB image of SIDE × SIDE pixels; equal scenes and seeds give equal pixels."""
    return Image.fromarray(draw(scene, seed)[0])
