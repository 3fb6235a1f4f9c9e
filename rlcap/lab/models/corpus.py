"""Corpora of drawn scenes in memory, to pretrain the lab's models. They belong to the train split only."""

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
"""The value of `breaking` that stands for crowded scenes, which train vision encoders."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """N scenes with their pixels."""

    scenes: list[Scene]
    """The scenes."""
    pixels: np.ndarray
    """(N, SIDE, SIDE, 3) uint8."""
    owners: np.ndarray
    """(N, SIDE, SIDE) int8: index of the visible thing at each pixel, −1 for the background."""

    def __len__(self) -> int:
        return len(self.scenes)

    def head(self, count: int) -> Corpus:
        """Return the corpus of the first `count` scenes."""
        return Corpus(self.scenes[:count], self.pixels[:count], self.owners[:count])


def crowded_scene(rng: random.Random) -> Scene:
    """Draw a scene of seven to nine things without habits.

    No split contains such a scene, and its picture teaches a vision encoder more than an ordinary one.
    """
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
    """Return the render seed of image `index` of the corpus `name`, which differs from the seeds of other corpora."""
    return random.Random(f"pixels/{name}/{index}").getrandbits(48)


def draw_corpus(name: str, count: int, breaking: float = 0.5, family: int = 1, workers: int = 2) -> Corpus:
    """Draw a corpus of `count` images, rounded down to whole families.

    The corpus depends only on the arguments, but not on `workers`.

    Args:
        name: The name of the corpus, which seeds the random generators.
        count: The number of images.
        breaking: The share of scenes without habits; `CROWDED` draws crowded scenes instead.
        family: The number of images per family of siblings; 1 draws independent scenes.
        workers: The number of processes.
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


def concatenate(first: Corpus, second: Corpus) -> Corpus:
    """Concatenate two corpora."""
    return Corpus(
        first.scenes + second.scenes,
        np.concatenate([first.pixels, second.pixels]),
        np.concatenate([first.owners, second.owners]),
    )
