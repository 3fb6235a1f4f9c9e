"""The lab as a data source: scenes of a split, drawn once into a cache folder, as `Sample` rows.

A scene belongs to exactly one split, decided by a hash of what is in it, so that train, validation and test never share
a scene, whatever the seeds. Rows come in families of near-duplicates; a row's distractors are its family, nearest
first, and then the most similar images of the rest of the split.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlcap.config.schema import DataConfig
from rlcap.data.source import Splits
from rlcap.errors import ConfigError
from rlcap.io.cache import cache_folder
from rlcap.lab.truth import LabTruth
from rlcap.lab.world.experts import fuse, run_experts
from rlcap.lab.world.language import INSTRUCTION, sample_references
from rlcap.lab.world.renderer import render
from rlcap.lab.world.scene import Scene, distance, sample_scene, sample_sibling
from rlcap.types import Sample

BUCKETS = {"train": range(70), "validation": range(70, 80), "test": range(80, 90), "prior_breaking": range(90, 100)}
"""Split → the hash buckets (of 100) whose scenes it may hold. `prior_breaking` is a test split without habits."""
FAMILY = 7
"""Images in a family: a base scene and six siblings, so that bags of 3, 5 and 7 exist."""
DEFAULT_TRAIN = 560
"""Training images where the configuration does not say how many."""
VERSION = "2"
"""Part of the cache folder's name: raise it when the pixels or texts of a (split, seed) change."""


def bucket(scene: Scene) -> int:
    """0 to 99, from what is in the scene, whatever the order of its things."""
    things = sorted(tuple(getattr(t, f) for f in ("kind", "colour", "size", "fill", "place")) for t in scene.things)
    return int(hashlib.sha256(json.dumps([scene.background, things]).encode()).hexdigest()[:8], 16) % 100


def draw_scene(rng: random.Random, split: str, breaking: bool | None = None) -> Scene:
    """A random scene that belongs to `split`."""
    while True:
        scene = sample_scene(rng, breaking)
        if bucket(scene) in BUCKETS[split]:
            return scene


def draw_family(rng: random.Random, split: str, size: int = FAMILY) -> list[Scene]:
    """A base scene and `size` − 1 siblings at one, two and three differences, nearest first, all of `split`."""
    base = draw_scene(rng, split, breaking=True if split == "prior_breaking" else None)
    scenes = [base]
    while len(scenes) < size:
        fresh = sample_sibling(base, rng, 1 + (len(scenes) - 1) * 3 // max(size - 1, 1))
        if fresh not in scenes and bucket(fresh) in BUCKETS[split]:
            scenes.append(fresh)
    return scenes


def write_image(scene: Scene, seed: int, path: Path) -> None:
    """Render to a PNG, written whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    render(scene, seed).save(partial, "PNG", compress_level=1)
    partial.replace(path)


def _features(scene: Scene) -> Counter:
    counts: Counter = Counter({("ground", scene.background): 1})
    for t in scene.things:
        counts.update([t.kind, (t.kind, t.colour), (t.kind, t.fill), (t.kind, t.size), (t.kind, t.place)])
    return counts


def neighbours(
    scenes: list[Scene], families: list[int], hard: int = 24, medium: int = 24
) -> list[dict[str, list[int]]]:
    """Return for each scene {level: indices of other scenes, nearest first}.

    `hard` begins with the scene's family, by the number of differences, and goes on with the most similar other scenes by the cosine of
    their features; `medium` holds the ranks after those.
    """
    index: dict = {}
    for scene in scenes:
        for feature in _features(scene):
            index.setdefault(feature, len(index))
    matrix = np.zeros((len(scenes), len(index)), np.float32)
    for row, scene in enumerate(scenes):
        for feature, count in _features(scene).items():
            matrix[row, index[feature]] = count
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    similar = matrix @ matrix.T
    result = []
    for i, scene in enumerate(scenes):
        same = [j for j in range(len(scenes)) if j != i and families[j] == families[i]]
        same.sort(key=lambda j: (distance(scene, scenes[j]), j))
        order = [int(j) for j in np.argsort(-similar[i], kind="stable") if j != i and families[j] != families[i]]
        ranked = same + order
        result.append({"hard": ranked[:hard], "medium": ranked[hard : hard + medium]})
    return result


class LabSource:
    """The embedded lab. A configuration names it as `rlcap.lab.source:LabSource`.

    Args:
        prior_breaking: images of a second test split, whose scenes break the lab's habits.
    """

    instruction = INSTRUCTION
    truth = LabTruth()

    def __init__(self, prior_breaking: int = 0) -> None:
        if prior_breaking < 0:
            raise ValueError(f"prior_breaking is a number of images, got {prior_breaking}")
        self.prior_breaking = prior_breaking

    def load_splits(self, config: DataConfig) -> tuple[Splits, list[str]]:
        """Return the splits of the configured sizes, and a line that says so."""
        counts = {
            "train": DEFAULT_TRAIN if config.train is None else config.train,
            "validation": config.validation,
            "test": config.test,
            "prior_breaking": self.prior_breaking,
        }
        splits = {name: load_split(name, count, config.seed) for name, count in counts.items() if count}
        return splits, [f"lab: {', '.join(f'{len(rows)} {name}' for name, rows in splits.items())}"]

    def load_split(self, config: DataConfig, split: str, count: int) -> Splits:
        """Return `count` samples of a split.

        Raises:
            ConfigError: for a split that the lab does not have.
        """
        if split not in BUCKETS:
            raise ConfigError(f"--split {split}: the lab has {', '.join(BUCKETS)}")
        return {split: load_split(split, count, config.seed)}

    def load_rows(self, config: DataConfig, check_images: bool = True) -> Sequence[Sample]:
        """Return the training samples."""
        return load_split("train", DEFAULT_TRAIN if config.train is None else config.train, config.seed)


def load_split(split: str, count: int, seed: int = 0, cache: Path | None = None) -> list[Sample]:
    """`count` samples of a split, images drawn into the cache unless they are there.

    Each sample has five references, the fused paragraph, distractor ids by level, and in `meta` the `scene` and the
    `experts`' outputs as JSON-able mappings. The same arguments give the same samples, a larger count the same first
    ones. ValueError for an unknown split.
    """
    if split not in BUCKETS:
        raise ValueError(f"unknown lab split {split!r}; known: {', '.join(BUCKETS)}")
    folder = (cache or cache_folder()) / "lab" / f"v{VERSION}-{split}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    scenes: list[Scene] = []
    families: list[int] = []
    number = 0
    while len(scenes) < count:
        members = draw_family(random.Random(f"{split}/{seed}/{number}"), split)[: count - len(scenes)]
        scenes += members
        families += [number] * len(members)
        number += 1
    ids = [f"{split}-{seed}-{i:05d}" for i in range(count)]
    near = neighbours(scenes, families)
    samples = []
    for i, scene in enumerate(scenes):
        path = folder / f"{ids[i]}.png"
        if not path.exists():
            write_image(scene, seed * 1_000_003 + i, path)
        rng = random.Random(f"{ids[i]}/texts")
        experts = run_experts(scene, rng)
        samples.append(
            Sample(
                id=ids[i],
                image=str(path),
                references=sample_references(scene, rng),
                paragraph=fuse(experts, rng),
                distractors={level: tuple(ids[j] for j in indices) for level, indices in near[i].items()},
                meta={"scene": scene.to_json(), "experts": experts.to_json()},
            )
        )
    return samples


def export(split: str, count: int, seed: int, out: Path) -> None:
    """Write `images/`, `scenes.jsonl` and `references.jsonl` of a split, for measuring with other code.

    A scenes row is {id, image, scene}; a references row {id, image, references, paragraph, distractors}. Image paths
    are relative to `out`.
    """
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    with open(out / "scenes.jsonl", "w") as scenes, open(out / "references.jsonl", "w") as texts:
        for sample in load_split(split, count, seed):
            target = images / f"{sample.id}.png"
            target.write_bytes(Path(sample.image).read_bytes())
            row = {"id": sample.id, "image": f"images/{target.name}"}
            scenes.write(json.dumps({**row, "scene": sample.meta["scene"]}) + "\n")
            rest = {
                "references": sample.references,
                "paragraph": sample.paragraph,
                "distractors": dict(sample.distractors),
            }
            texts.write(json.dumps({**row, **rest}) + "\n")
