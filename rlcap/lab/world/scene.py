"""Scenes: the contents of the images of the lab. A scene is plain data; other modules draw and describe it.

>>> import random
>>> scene = sample_scene(random.Random(0))
>>> Scene.from_json(scene.to_json()) == scene
True
"""

from __future__ import annotations

import random
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace

from rlcap.errors import InputError
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, PLACES, SIZES, THEMES, USUAL, cell_of
from rlcap.types import Sample

HABIT = 0.75
"""Probability that one attribute of an ordinary scene is the usual one."""
BREAKING_SHARE = 0.25
"""Share of scenes drawn without any habit."""
ATTRIBUTES = {"colour": COLOURS, "size": SIZES, "fill": FILLS}
"""Attribute → its values."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object with its kind, its appearance and its place, one of nine."""

    kind: str
    colour: str
    size: str
    fill: str
    place: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Two to five things on a background."""

    background: str
    """One of `BACKGROUNDS`."""
    things: tuple[Thing, ...]
    """The things, each in another place. Later things are drawn over earlier ones."""

    def to_json(self) -> dict:
        """Return the scene as a mapping of JSON values; `from_json` is the inverse."""
        return {"background": self.background, "things": [asdict(thing) for thing in self.things]}

    @classmethod
    def from_json(cls, data: dict) -> Scene:
        """Return the scene that `to_json` stored."""
        return cls(data["background"], tuple(Thing(**thing) for thing in data["things"]))

    def count(self, kind: str) -> int:
        """Return the number of things of a kind."""
        return sum(thing.kind == kind for thing in self.things)


def holds(relation: str, first: Thing, second: Thing) -> bool:
    """Return whether `first` is strictly left of, right of, above or below `second`, by their cells in the grid."""
    (x1, y1), (x2, y2) = cell_of(first.place), cell_of(second.place)
    return {"left of": x1 < x2, "right of": x1 > x2, "above": y1 < y2, "below": y1 > y2}[relation]


def sample_thing(rng: random.Random, kind: str, free: list[str], habit: float) -> Thing:
    """Draw a thing of a kind in one of the `free` places; each attribute is the usual one with probability `habit`."""
    colour, size, fill, places = USUAL[kind]
    usual_free = [place for place in places if place in free]
    return Thing(
        kind,
        colour if rng.random() < habit else rng.choice(COLOURS),
        size if rng.random() < habit else rng.choice(SIZES),
        fill if rng.random() < habit else rng.choice(FILLS),
        rng.choice(usual_free) if usual_free and rng.random() < habit else rng.choice(free),
    )


def sample_scene(rng: random.Random, breaking: bool | None = None) -> Scene:
    """Draw a scene.

    Args:
        rng: The random generator.
        breaking: True draws every attribute uniformly, False follows the habits, and None chooses True for a share of
            `BREAKING_SHARE`.
    """
    if breaking is None:
        breaking = rng.random() < BREAKING_SHARE
    habit = 0.0 if breaking else HABIT
    kinds, usual_background = THEMES[rng.choice(list(THEMES))]
    count = rng.choice((2, 3, 3, 4, 4, 5))
    things: list[Thing] = []
    while len(things) < count:
        if things and rng.random() < 0.22:
            kind = rng.choice(things).kind
        elif rng.random() < (0.35 if breaking else 0.92):
            kind = rng.choice(kinds)
        else:
            kind = rng.choice(KINDS)
        taken = {thing.place for thing in things}
        things.append(sample_thing(rng, kind, [p for p in PLACES if p not in taken], habit))
    background = usual_background if rng.random() < max(habit, 0.17) else rng.choice(BACKGROUNDS)
    return Scene(background, tuple(things))


def change_attribute(
    scene: Scene, rng: random.Random, taken: AbstractSet[tuple[int, str]] = frozenset()
) -> tuple[Scene, tuple[int, str]]:
    """Change one random attribute of a scene that is not in `taken`.

    Returns:
        The changed scene, and the changed slot: (index of the thing, attribute), with index −1 for the background.
    """
    options = [(i, a) for i in range(len(scene.things)) for a in ("kind", "colour", "size", "fill", "place")]
    slot = rng.choice([o for o in [*options, (-1, "background")] if o not in taken])
    return _changed(scene, rng, *slot), slot


def misread(scene: Scene, rng: random.Random, share: float) -> Scene:
    """Return the scene as a poor observer sees it.

    Each attribute of each thing, and the background, is replaced by another value with probability `share`.
    """
    slots = [(i, a) for i in range(len(scene.things)) for a in ("kind", "colour", "size", "fill", "place")]
    for slot in [*slots, (-1, "background")]:
        if rng.random() < share:
            scene = _changed(scene, rng, *slot)
    return scene


def _changed(scene: Scene, rng: random.Random, index: int, attribute: str) -> Scene:
    if index < 0:
        return replace(scene, background=rng.choice([b for b in BACKGROUNDS if b != scene.background]))
    thing = scene.things[index]
    if attribute == "place":
        used = {t.place for t in scene.things}
        value = rng.choice([p for p in PLACES if p not in used])
    else:
        values = KINDS if attribute == "kind" else ATTRIBUTES[attribute]
        value = rng.choice([v for v in values if v != getattr(thing, attribute)])
    things = list(scene.things)
    things[index] = replace(thing, **{attribute: value})
    return replace(scene, things=tuple(things))


def sample_sibling(scene: Scene, rng: random.Random, differences: int) -> Scene:
    """Draw a near-duplicate of a scene that differs in exactly `differences` attributes (1, 2 or 3)."""
    taken: set[tuple[int, str]] = set()
    result = scene
    for _ in range(differences):
        result, slot = change_attribute(result, rng, taken)
        taken.add(slot)
    return result


def sample_family(rng: random.Random, size: int, breaking: bool | None = None) -> list[Scene]:
    """Draw a base scene and `size` − 1 different siblings with one, two or three differences to it, nearest first."""
    base = sample_scene(rng, breaking)
    scenes = [base]
    while len(scenes) < size:
        fresh = sample_sibling(base, rng, 1 + (len(scenes) - 1) * 3 // max(size - 1, 1))
        if fresh not in scenes:
            scenes.append(fresh)
    return scenes


def distance(first: Scene, second: Scene) -> int:
    """Return the number of different attributes; things are matched by their index, which is exact within a family."""
    total = int(first.background != second.background) + 5 * abs(len(first.things) - len(second.things))
    for a, b in zip(first.things, second.things, strict=False):
        total += sum(getattr(a, field) != getattr(b, field) for field in Thing.__slots__)
    return total


def scene_of(sample: Sample) -> Scene:
    """Return the scene of a lab sample.

    Raises:
        InputError: The sample is not from the lab; the message names it.
    """
    if "scene" not in sample.meta:
        raise InputError(f"sample {sample.id!r} has no scene; only samples of the lab have one")
    return Scene.from_json(sample.meta["scene"])
