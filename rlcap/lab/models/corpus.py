"""Many drawn scenes in memory: what the lab's own models are pretrained on. Train split only."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import dataclass

import numpy as np

from rlcap.lab.source import draw_family, draw_scene
from rlcap.lab.world.renderer import SIDE, draw
from rlcap.lab.world.scene import Scene, Thing
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, PLACES, SIZES

CROWDED = 2.0
"""As `breaking`: draw crowded scenes, for the vision tower."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Scenes and their pixels, aligned."""

    scenes: list[Scene]
    pixels: np.ndarray
    """(N, SIDE, SIDE, 3) uint8."""
    owners: np.ndarray
    """(N, SIDE, SIDE) int8: index of the thing seen at a pixel, −1 for the background."""

    def __len__(self) -> int:
        return len(self.scenes)

    def head(self, count: int) -> Corpus:
        """The first `count`."""
        return Corpus(self.scenes[:count], self.pixels[:count], self.owners[:count])


def crowded_scene(rng: random.Random) -> Scene:
    """Seven to nine things without habits: no split holds such a scene, and a picture of it teaches a tower the most."""
    places = rng.sample(PLACES, rng.choice((7, 8, 9)))
    things = (Thing(rng.choice(KINDS), rng.choice(COLOURS), rng.choice(SIZES), rng.choice(FILLS), p) for p in places)
    return Scene(rng.choice(BACKGROUNDS), tuple(things))


def _draw_chunk(arguments: tuple[str, int, int, float, int]) -> tuple[list[Scene], np.ndarray, np.ndarray]:
    name, first, count, breaking, family = arguments
    scenes: list[Scene] = []
    for number in range(first, first + count, family):
        rng = random.Random(f"corpus/{name}/{number}")
        if breaking > 1:
            scenes.append(crowded_scene(rng))
        elif family > 1:
            scenes += draw_family(rng, "train", family)
        else:
            scenes.append(draw_scene(rng, "train", True if rng.random() < breaking else None))
    drawn = [draw(scene, hash_seed(name, first + i)) for i, scene in enumerate(scenes)]
    return scenes, np.stack([pixels for pixels, _ in drawn]), np.stack([owner for _, owner in drawn])


def hash_seed(name: str, index: int) -> int:
    """A render seed for image `index` of corpus `name`, apart from every other corpus's."""
    return random.Random(f"pixels/{name}/{index}").getrandbits(48)


def draw_corpus(name: str, count: int, breaking: float = 0.5, family: int = 1, workers: int = 2) -> Corpus:
    """`count` images. `breaking` is the share of scenes without habits (`CROWDED`: crowded ones instead); `family` > 1
    draws families of siblings.

    A pure function of its arguments (`workers` only splits the work). `count` is rounded down to whole families.
    """
    chunk = 50 * family
    jobs = [(name, first, min(chunk, count - first), breaking, family) for first in range(0, count - family + 1, chunk)]
    jobs = [(n, f, c // family * family, b, k) for n, f, c, b, k in jobs if c >= family]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        parts = pool.map(_draw_chunk, jobs)
    scenes = [scene for part in parts for scene in part[0]]
    pixels = np.concatenate([part[1] for part in parts]) if parts else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    owners = np.concatenate([part[2] for part in parts]) if parts else np.zeros((0, SIDE, SIDE), np.int8)
    return Corpus(scenes, pixels, owners)


def join(first: Corpus, second: Corpus) -> Corpus:
    """Both, one after the other."""
    return Corpus(
        first.scenes + second.scenes,
        np.concatenate([first.pixels, second.pixels]),
        np.concatenate([first.owners, second.owners]),
    )
