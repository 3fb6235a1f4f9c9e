"""The lab as a data source: the scenes of a split as samples, with images that are rendered once into a cache folder.

A hash of the contents of a scene determines its split. So train, validation and test never share a scene, with any seeds.
The samples form families of near-duplicates. The distractors of a sample are the rest of its family, nearest first, and
then the most similar images of the rest of the split.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlcap.config.schema import DataConfig
from rlcap.data.source import Splits
from rlcap.errors import ConfigError
from rlcap.io.cache import cache_folder
from rlcap.io.text import iter_log
from rlcap.lab.controls import PHRASES, ask
from rlcap.lab.truth import LabTruth
from rlcap.lab.world.experts import fuse, run_experts
from rlcap.lab.world.language import INSTRUCTION, sample_references
from rlcap.lab.world.renderer import render
from rlcap.lab.world.scene import Scene, distance, sample_scene, sample_sibling
from rlcap.types import Control, Sample

BUCKETS = {"train": range(70), "validation": range(70, 80), "test": range(80, 90), "prior_breaking": range(90, 100)}
"""Split → the hash buckets (of 100) of its scenes. `prior_breaking` is a test split whose scenes break the lab's habits."""
FAMILY = 7
"""Images in a family: a base scene and six siblings, so that bags of 3, 5 and 7 exist."""
DEFAULT_TRAIN = 560
"""Default for the number of training images."""
VERSION = "2"
"""Part of the name of the cache folder. Raise it when the pixels or the texts of a (split, seed) change."""


def bucket(scene: Scene) -> int:
    """Return the hash bucket of a scene, from 0 to 99. It depends on the contents, but not on the order of the things."""
    things = sorted(tuple(getattr(t, f) for f in ("kind", "colour", "size", "fill", "place")) for t in scene.things)
    return int(hashlib.sha256(json.dumps([scene.background, things]).encode()).hexdigest()[:8], 16) % 100


def draw_scene(rng: random.Random, split: str, breaking: bool | None = None) -> Scene:
    """Draw a random scene that belongs to a split.

    Args:
        rng: The random generator.
        split: Name of the split.
        breaking: Whether the scene breaks the lab's habits; None leaves it open.
    """
    while True:
        scene = sample_scene(rng, breaking)
        if bucket(scene) in BUCKETS[split]:
            return scene


def draw_family(rng: random.Random, split: str, size: int = FAMILY) -> list[Scene]:
    """Draw a base scene and `size` − 1 siblings with one, two and three differences, nearest first, all of one split."""
    base = draw_scene(rng, split, breaking=True if split == "prior_breaking" else None)
    scenes = [base]
    while len(scenes) < size:
        fresh = sample_sibling(base, rng, 1 + (len(scenes) - 1) * 3 // max(size - 1, 1))
        if fresh not in scenes and bucket(fresh) in BUCKETS[split]:
            scenes.append(fresh)
    return scenes


def write_image(scene: Scene, seed: int, path: Path) -> None:
    """Render a scene to a PNG file. The file appears only when it is complete."""
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
    """Return the distractors of each scene: level → indices of other scenes, nearest first.

    `hard` begins with the family of the scene, ordered by the number of differences. The most similar other scenes follow,
    ordered by the cosine of their features. `medium` contains the next ranks.

    Args:
        scenes: N scenes.
        families: The number of the family of each scene.
        hard: Number of `hard` distractors.
        medium: Number of `medium` distractors.
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
        prior_breaking: Number of images of a second test split, whose scenes break the lab's habits.
        questions: Whether each row asks about one of the things that its paragraph names (`control.question`).
        paragraphs: A file of `rlcap fuse` whose paragraphs take the place of those of the training images. Training images without a
            paragraph there are left out. None keeps the lab's own.
    """

    instruction = INSTRUCTION
    control_phrases = PHRASES
    truth = LabTruth()

    def __init__(self, prior_breaking: int = 0, questions: bool = False, paragraphs: str | None = None) -> None:
        if prior_breaking < 0:
            raise ValueError(f"prior_breaking is a number of images, got {prior_breaking}")
        self.prior_breaking, self.questions, self.paragraphs = prior_breaking, questions, paragraphs

    def load_splits(self, config: DataConfig) -> tuple[Splits, list[str]]:
        """Return the splits of the configured sizes, and a line that describes them."""
        counts = {
            "train": DEFAULT_TRAIN if config.train is None else config.train,
            "validation": config.validation,
            "test": config.test,
            "prior_breaking": self.prior_breaking,
        }
        splits = {name: self._load(name, count, config.seed) for name, count in counts.items() if count}
        note = ""
        if self.paragraphs is not None and "train" in splits:
            lacking = int(counts["train"] or 0) - len(splits["train"])
            note = (
                f"; the paragraphs of train are those of {self.paragraphs}, which lacks {lacking} of {counts['train']}"
            )
        return splits, [f"lab: {', '.join(f'{len(rows)} {name}' for name, rows in splits.items())}{note}"]

    def load_split(self, config: DataConfig, split: str, count: int) -> Splits:
        """Return `count` samples of a split.

        Raises:
            ConfigError: The lab has no such split.
        """
        if split not in BUCKETS:
            raise ConfigError(f"--split {split}: the lab has {', '.join(BUCKETS)}")
        return {split: self._load(split, count, config.seed)}

    def load_rows(self, config: DataConfig, check_images: bool = True) -> Sequence[Sample]:
        """Return the training samples."""
        return self._load("train", DEFAULT_TRAIN if config.train is None else config.train, config.seed)

    def _load(self, split: str, count: int, seed: int) -> list[Sample]:
        samples = load_split(split, count, seed)
        if self.paragraphs is not None and split == "train":
            samples = _with_paragraphs(samples, Path(self.paragraphs))
        if not self.questions:
            return samples
        asked = [Control(question=ask(sample.id, sample.paragraph or "")) for sample in samples]
        return [replace(sample, control=control) for sample, control in zip(samples, asked, strict=True)]


def _with_paragraphs(samples: Sequence[Sample], rows: Path) -> list[Sample]:
    """Return the samples that a file of rows has a paragraph for, with this paragraph.

    Raises:
        ConfigError: The file is missing, or has no paragraph of any of the samples.
    """
    if not rows.is_file():
        raise ConfigError(f"data.options.paragraphs: there is no file {rows}; `rlcap fuse` writes one")
    paragraphs = {str(row.get("id")): row.get("paragraph") for row in iter_log(rows)}
    found = [replace(one, paragraph=paragraphs[one.id]) for one in samples if paragraphs.get(one.id)]
    if not found:
        raise ConfigError(
            f"data.options.paragraphs: {rows} has no paragraph of the {len(samples)} training images; fuse the same split and seed"
        )
    return found


def load_split(split: str, count: int, seed: int = 0, cache: Path | None = None) -> list[Sample]:
    """Return samples of a split, and render those images that are not in the cache yet.

    Each sample has five references, the fused paragraph, and distractor ids by level. Its `meta` has the `scene` and the
    outputs of the `experts` as plain JSON values, and its `cluster` is its family. The same arguments give the same samples, and a larger count gives the
    same first samples.

    Args:
        split: Name of the split.
        count: Number of samples.
        seed: Seed of the scenes.
        cache: Cache folder; None for the default.

    Raises:
        ValueError: The split is unknown.
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
                cluster=f"{split}-{seed}-family-{families[i]}",
            )
        )
    return samples


def export(split: str, count: int, seed: int, out: Path) -> None:
    """Write `images/`, `scenes.jsonl` and `references.jsonl` of a split, for measurements with other code.

    A row of `scenes.jsonl` is {id, image, scene}. A row of `references.jsonl` is {id, image, references, paragraph,
    distractors}. Image paths are relative to `out`.

    Args:
        split: Name of the split.
        count: Number of images.
        seed: Seed of the scenes.
        out: The folder to write.
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
