"""The vocabulary of the lab and its habits.

The habits say which kinds occur together, and their usual colours, sizes, fills and places. A captioner can learn them
instead of looking at the image. A share of scenes breaks them (`rlcap.lab.world.scene`), so that captions that merely
state the usual differ from captions that describe the image.
"""

from __future__ import annotations

KINDS = (
    "ball", "box", "star", "heart", "tree", "house", "car", "boat",
    "fish", "bird", "lamp", "flower", "cup", "kite",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = ("small", "medium", "large")
FILLS = ("plain", "striped", "dotted")
PLACES = (
    "top left", "top", "top right",
    "left", "middle", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
BACKGROUNDS = ("grass", "sand", "water", "snow", "brick", "wood")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

THEMES: dict[str, tuple[tuple[str, ...], str]] = {
    "sea": (("boat", "fish", "bird", "ball"), "water"),
    "garden": (("tree", "flower", "bird", "house"), "grass"),
    "street": (("car", "house", "lamp", "tree"), "brick"),
    "room": (("lamp", "cup", "box", "heart"), "wood"),
    "party": (("ball", "kite", "star", "box"), "snow"),
    "beach": (("kite", "boat", "ball", "fish"), "sand"),
}
"""Theme → (the kinds that occur together, the usual background)."""

USUAL: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "ball": ("red", "small", "striped", ("bottom", "bottom left", "bottom right")),
    "box": ("orange", "medium", "plain", ("bottom left", "bottom right", "left")),
    "star": ("yellow", "small", "plain", ("top left", "top", "top right")),
    "heart": ("red", "medium", "plain", ("middle", "top", "left")),
    "tree": ("green", "large", "plain", ("left", "right", "middle")),
    "house": ("white", "large", "plain", ("middle", "right", "left")),
    "car": ("blue", "medium", "plain", ("bottom", "bottom left", "middle")),
    "boat": ("white", "large", "striped", ("middle", "left", "right")),
    "fish": ("orange", "small", "striped", ("bottom", "bottom left", "bottom right")),
    "bird": ("black", "small", "plain", ("top", "top left", "top right")),
    "lamp": ("yellow", "medium", "plain", ("top right", "right", "top")),
    "flower": ("purple", "small", "dotted", ("bottom left", "bottom", "bottom right")),
    "cup": ("blue", "small", "dotted", ("middle", "bottom", "right")),
    "kite": ("red", "medium", "dotted", ("top right", "top", "top left")),
}
"""Kind → its usual colour, size, fill and places."""

CONFUSABLE = {
    "ball": "heart", "box": "house", "star": "flower", "heart": "ball", "tree": "lamp", "house": "box",
    "car": "boat", "boat": "car", "fish": "bird", "bird": "fish", "lamp": "tree", "flower": "star",
    "cup": "box", "kite": "star",
}  # fmt: skip
"""Kind → the kind with which a weak detector confuses it."""


def cell_of(place: str) -> tuple[int, int]:
    """Return (column, row) of a place in the three by three grid, each 0, 1 or 2, from the top left."""
    index = PLACES.index(place)
    return index % 3, index // 3
