"""Bags of similar images: the bag file and its uses.

A bag file lists, for each image, similar images in order of decreasing similarity, at several levels of difficulty:

    {"schema": 1, "model": "ViT-B-32 laion2b 0f3c…", "fingerprint": "sha256 of the data set",
     "levels": {"hard": {"139": ["802", "11813"], …}, "medium": {…}, "easy": {…}},
     "about": {"near_identical": 0.97, "dropped_pairs": 12, …}}

`attach_distractors` copies the lists into the samples. From then on the bag is part of the row, so that no reward
depends on the composition of a batch. `partition` divides a data set into disjoint bags, as the TrueMatch benchmark
does. This module also reads and writes TrueMatch JSON (a list of lists of ids), and `make_bag_file` turns such bags
into a bag file.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlcap.errors import BagError
from rlcap.io.atomic import write_json
from rlcap.io.text import read_json
from rlcap.types import Bag, Sample

SCHEMA = 1
"""Version of the format of bag files."""

Neighbours = Mapping[str, tuple[str, ...]]
"""Image id → ids of similar images, the most similar first; an image is never its own neighbour."""


@dataclass(frozen=True, slots=True)
class BagFile:
    """The neighbours of every image of a data set, by level."""

    model: str
    """Name of the scorer that measured the similarity."""
    levels: Mapping[str, Neighbours]
    """Level of difficulty → neighbours of each image."""
    fingerprint: str = ""
    """`SampleSet.fingerprint` of the data set; "" where it is unknown."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How the neighbours were chosen: thresholds, ranks and counts."""

    def __post_init__(self) -> None:
        if not self.levels:
            raise BagError("a bag file needs at least one level, such as 'hard'")
        known = self.ids
        for level, lists in self.levels.items():
            for id, neighbours in lists.items():
                if id in neighbours:
                    raise BagError(f"bag file, level {level!r}: {id!r} is listed as its own neighbour; remove it")
                if len(set(neighbours)) < len(neighbours):
                    raise BagError(f"bag file, level {level!r}: the neighbours of {id!r} repeat; list each once")
            _check_known(f"bag file, level {level!r}", (n for ns in lists.values() for n in ns), known)

    @property
    def ids(self) -> set[str]:
        """The ids of all images that have a list of neighbours."""
        return {id for lists in self.levels.values() for id in lists}

    def write(self, path: str | os.PathLike) -> None:
        """Write the bag file as JSON, atomically."""
        data = {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "about": dict(self.about),
            "levels": {level: {id: list(ids) for id, ids in lists.items()} for level, lists in self.levels.items()},
        }
        write_json(path, data, "the bag file", ensure_ascii=False)

    @classmethod
    def read(cls, path: str | os.PathLike) -> BagFile:
        """Read a bag file.

        Raises:
            BagError: The file is not a bag file, has another schema, or contains inconsistent lists.
        """
        data = _read_json(path)
        if not isinstance(data, dict) or "levels" not in data:
            raise BagError(f"{path} is not a bag file: it has no 'levels'; make a bag file with `rlcap bags mine`")
        if data.get("schema") != SCHEMA:
            raise BagError(
                f"{path} has schema {data.get('schema')!r}, but this version reads {SCHEMA}; mine the bags again"
            )
        levels = data["levels"]
        if not isinstance(levels, dict) or not all(
            isinstance(lists, dict) and all(isinstance(ids, list) for ids in lists.values())
            for lists in levels.values()
        ):
            raise BagError(
                f"{path}: 'levels' must map a level to an object with a list of ids for each image; mine the bags again"
            )
        for key, kind in (("model", str), ("fingerprint", str), ("about", dict)):
            if not isinstance(data.get(key, kind()), kind):
                raise BagError(
                    f"{path}: {key!r} must be {'a text' if kind is str else 'an object'}, got {data[key]!r:.80}; mine the "
                    "bags again"
                )
        size = data.get("about", {}).get("size", 2)
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise BagError(f"{path}: about.size must be a whole number from 2, got {size!r:.40}; mine the bags again")
        levels = {level: {id: tuple(map(str, ids)) for id, ids in lists.items()} for level, lists in levels.items()}
        return cls(data.get("model", ""), levels, data.get("fingerprint", ""), data.get("about", {}))


def attach_distractors(
    samples: Sequence[Sample], bags: BagFile, *, on_unknown: Literal["error", "drop"] = "error"
) -> tuple[Sample, ...]:
    """Return the samples with their `distractors` filled from every level of the bag file.

    Args:
        samples: The samples of a data set or of one split.
        bags: The bag file.
        on_unknown: With `drop`, neighbours that are not among `samples` are left out, as in a file that was mined
            before the data set was split, and an image without a list gets no distractors. With `error`, both raise an
            error.

    Raises:
        BagError: The file and the samples have no image in common, or `on_unknown` is `error` and an image is unknown.
    """
    known = {sample.id for sample in samples}
    if not known & bags.ids:
        raise BagError(
            f"the bag file ({len(bags.ids)} images, such as {next(iter(sorted(bags.ids)))!r}) belongs to another data "
            f"set than the samples ({len(known)} images, such as {next(iter(sorted(known)), None)!r}); mine bags for "
            "this data set"
        )
    if on_unknown == "error":
        if missing := sorted(known - bags.ids):
            raise BagError(
                f"the bag file has no list for {_shorten(missing)}; mine the bags again, or use on_unknown='drop'"
            )
        for level, lists in bags.levels.items():
            used = (n for id, ns in lists.items() if id in known for n in ns)
            _check_known(
                f"level {level!r} of the bag file",
                used,
                known,
                "mine bags of these images only, or use on_unknown='drop'",
            )
    return tuple(
        replace(
            sample,
            distractors={
                level: tuple(n for n in lists.get(sample.id, ()) if n in known) for level, lists in bags.levels.items()
            },
        )
        for sample in samples
    )


def partition(
    neighbours: Mapping[str, Sequence[str]], size: int, similarities: Mapping[str, Sequence[float]], level: str = "hard"
) -> list[Bag]:
    """Partition images into disjoint bags by the greedy algorithm of algorithms.md §1.8, the most similar images first.

    The anchors come in descending order of the sum of their n−1 highest similarities. Each anchor takes its nearest n−1
    images that are in no bag yet. An anchor with fewer such images in its list makes no bag, but a later anchor may
    still take its image.

    Args:
        neighbours: Id → ids of similar images, nearest first.
        size: Images per bag (n), 2 or more.
        similarities: Id → similarity to each of its neighbours, in the same order.
        level: The level of the bags.

    Raises:
        BagError: `size` is below 2.
    """
    if size < 2:
        raise BagError(f"bag size {size} is too small for a pair of images; choose 2 or more")
    total_similarity = {id: sum(list(similarities[id])[: size - 1]) for id in neighbours}
    taken: set[str] = set()
    bags = []
    for anchor in sorted(neighbours, key=lambda id: -total_similarity[id]):  # stable: ties keep their order
        free = [id for id in neighbours[anchor] if id not in taken][: size - 1]
        if anchor in taken or len(free) < size - 1:
            continue
        bags.append(Bag((anchor, *free), level))
        taken.update(bags[-1].ids)
    return bags


def make_bag_file(bags: Sequence[Bag], model: str = "") -> BagFile:
    """Make a bag file of disjoint bags of one size.

    The neighbours of an image are the other images of its bag, in the order of the bag. `partition` of the only level
    of the file, with the size `about["size"]` and equal similarities, returns the same bags.

    Raises:
        BagError: There are no bags, or an image is in two bags or twice in one.
    """
    if not bags:
        raise BagError("there are no bags; a bag file needs at least one")
    counts = Counter(id for bag in bags for id in bag.ids)
    if repeated := sorted(id for id, count in counts.items() if count > 1):
        raise BagError(
            f"the bags contain {_shorten(repeated)} more than once; an image can have only one list of neighbours"
        )
    lists = {id: tuple(other for other in bag.ids if other != id) for bag in bags for id in bag.ids}
    return BagFile(model, {bags[0].level: lists}, about={"bags": len(bags), "size": len(bags[0].ids)})


def random_distractors(ids: Iterable[str], size: int, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """Draw for each id `size - 1` other ids at random, for a bag of `size` images (RD100: 100).

    The draw of an image depends on the seed, its id and the set of ids, but not on their order.

    Raises:
        BagError: There are fewer than `size` ids, or `size` is below 2.
    """
    pool = sorted(set(ids))
    if not 2 <= size <= len(pool):
        raise BagError(f"a random bag of {size} can't be drawn from {len(pool)} images; choose 2 to {len(pool)}")
    drawn = {}
    for position, id in enumerate(pool):
        generator = random.Random(hashlib.sha256(f"{seed}:{id}".encode()).digest())
        # draw among the other images: shift every position from the image's own position on by one
        drawn[id] = tuple(pool[p + (p >= position)] for p in generator.sample(range(len(pool) - 1), size - 1))
    return drawn


def is_bag_file(path: str | os.PathLike) -> bool:
    """Return whether a JSON file has the form of a bag file (an object) and not of a TrueMatch file (a list).

    Raises:
        BagError: The file does not exist or is not JSON.
    """
    return isinstance(_read_json(path), dict)


def read_truematch(path: str | os.PathLike, known: Iterable[str] | None = None) -> list[Bag]:
    """Read the bags of a TrueMatch file: a JSON list of lists of ids (numbers or strings), all of one size.

    Args:
        path: The file.
        known: The ids of the data set, to check the ids in the file; None for no check.

    Raises:
        BagError: The file has another form or bags of several sizes, or contains ids that are not among `known`.
    """
    data = _read_json(path)
    if not isinstance(data, list) or not all(isinstance(bag, list) and len(bag) > 1 for bag in data) or not data:
        raise BagError(f"{path} is not a TrueMatch file: it must be a list of lists of two or more image ids")
    if invalid := [id for bag in data for id in bag if isinstance(id, bool) or not isinstance(id, int | str)]:
        raise BagError(f"{path} has {invalid[0]!r:.60} in place of an image id; write a whole number or a string")
    if len(sizes := sorted({len(bag) for bag in data})) > 1:
        raise BagError(
            f"{path} mixes bags of {', '.join(map(str, sizes))} images; all bags of a file must have one size"
        )
    bags = [Bag(tuple(map(str, bag))) for bag in data]
    if known is not None:
        _check_known(str(path), (id for bag in bags for id in bag.ids), set(known))
    return bags


def write_truematch(bags: Iterable[Bag], path: str | os.PathLike) -> None:
    """Write the bags as TrueMatch JSON; ids that are plain whole numbers become numbers, as COCO ids are."""
    lists = [[int(id) if id.isdigit() and str(int(id)) == id else id for id in bag.ids] for bag in bags]
    write_json(path, lists, "the TrueMatch file", ensure_ascii=False)


def _check_known(where: str, ids: Iterable[str], known: set[str], fix: str = "remove them or add their images") -> None:
    """Raise BagError where an id is not among `known`."""
    if unknown := sorted(set(ids) - known):
        raise BagError(f"{where} names {_shorten(unknown)}, which the data set does not have; {fix}")


def _shorten(ids: Sequence[str]) -> str:
    """Return at most five ids as text, and the number of the others."""
    shown = ", ".join(map(repr, ids[:5]))
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"


def _read_json(path: str | os.PathLike) -> Any:
    if not Path(path).exists():
        raise BagError(f"bag file {path} does not exist; make one with `rlcap bags mine`")
    return read_json(path, "bag file", BagError)
