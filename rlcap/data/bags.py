"""Bags of similar images: the bag file, and what is made of it.

A bag file says for each image which others resemble it, nearest first, at several levels of difficulty:

    {"schema": 1, "model": "ViT-B-32 laion2b 0f3c…", "fingerprint": "sha256 of the data set",
     "levels": {"hard": {"139": ["802", "11813"], …}, "medium": {…}, "easy": {…}},
     "about": {"near_identical": 0.97, "dropped_pairs": 12, …}}

`attach_distractors` copies the lists into the samples: from there on the bag travels in the row, and no reward depends on how a batch
was put together. `partition` cuts a data set into disjoint bags, as the TrueMatch benchmark does; its JSON (a list of
lists of ids) is read and written too, and `make_bag_file` makes a bag file of such bags.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlcap.types import Bag, InputError, Sample

SCHEMA = 1

Neighbours = Mapping[str, tuple[str, ...]]
"""Image id → ids of similar images, nearest first, never itself."""


class BagError(InputError):
    """A bag file that can't be used; the message names the file or ids and what to do."""


@dataclass(frozen=True, slots=True)
class BagFile:
    """Neighbours of every image of a data set, by level."""

    model: str
    """The scorer that found them."""
    levels: Mapping[str, Neighbours]
    fingerprint: str = ""
    """Of the data set, as `SampleSet.fingerprint` gives it; "" where unknown."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """How the neighbours were chosen: thresholds, ranks, counts."""

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
            _refuse_unknown(f"bag file, level {level!r}", (n for ns in lists.values() for n in ns), known)

    @property
    def ids(self) -> set[str]:
        """Every image that has a list."""
        return {id for lists in self.levels.values() for id in lists}

    def write(self, path: str | os.PathLike) -> None:
        """As JSON, whole or not at all."""
        data = {
            "schema": SCHEMA,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "about": dict(self.about),
            "levels": {level: {id: list(ids) for id, ids in lists.items()} for level, lists in self.levels.items()},
        }
        _write_json(path, data)

    @classmethod
    def read(cls, path: str | os.PathLike) -> BagFile:
        """Raises BagError: not a bag file, another schema, or lists that contradict themselves."""
        data = _read_json(path)
        if not isinstance(data, dict) or "levels" not in data:
            raise BagError(f"{path} is not a bag file: it has no 'levels'; make one with `rlcap bags mine`")
        if data.get("schema") != SCHEMA:
            raise BagError(f"{path} has schema {data.get('schema')!r}, this version reads {SCHEMA}; mine it again")
        levels = data["levels"]
        if not isinstance(levels, dict) or not all(
            isinstance(lists, dict) and all(isinstance(ids, list) for ids in lists.values())
            for lists in levels.values()
        ):
            raise BagError(f"{path}: 'levels' must map a level to each image's list of ids; mine it again")
        levels = {level: {id: tuple(map(str, ids)) for id, ids in lists.items()} for level, lists in levels.items()}
        return cls(data.get("model", ""), levels, data.get("fingerprint", ""), data.get("about", {}))


def attach_distractors(
    samples: Sequence[Sample], bags: BagFile, *, on_unknown: Literal["error", "drop"] = "error"
) -> tuple[Sample, ...]:
    """The samples with their `distractors` filled from every level.

    Args:
        on_unknown: `drop` leaves out neighbours that are not among `samples` (a file mined before a split) and gives an
            image without a list no distractors; `error` refuses both, by name.

    Raises:
        BagError: see `on_unknown`; or the file shares no image with the samples.
    """
    known = {sample.id for sample in samples}
    if not known & bags.ids:
        raise BagError(
            f"the bag file ({len(bags.ids)} images, such as {next(iter(sorted(bags.ids)))!r}) is of another data set than the "
            f"samples ({len(known)}, such as {next(iter(sorted(known)), None)!r}); mine bags for this one"
        )
    if on_unknown == "error":
        if missing := sorted(known - bags.ids):
            raise BagError(f"the bag file has no list for {_some(missing)}; mine it again, or on_unknown='drop'")
        for level, lists in bags.levels.items():
            used = (n for id, ns in lists.items() if id in known for n in ns)
            _refuse_unknown(
                f"level {level!r} of the bag file", used, known, "mine bags of these images alone, or on_unknown='drop'"
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
    """Disjoint bags by the greedy pass of algorithms.md §1.8, the most similar first.

    Anchors go by descending sum of their n−1 highest similarities; each takes its nearest n−1 images that no bag has yet.
    An anchor with fewer left in its list makes no bag; its image may still be taken by a later one.

    Args:
        neighbours: id → ids, nearest first.
        size: images per bag (n), 2 or more.
        similarities: id → similarity to each of its neighbours, in the same order.
    """
    if size < 2:
        raise BagError(f"bag size {size} holds no pair; choose 2 or more")
    strength = {id: sum(list(similarities[id])[: size - 1]) for id in neighbours}
    seen: set[str] = set()
    bags = []
    for anchor in sorted(neighbours, key=lambda id: -strength[id]):  # stable: ties keep their order
        free = [id for id in neighbours[anchor] if id not in seen][: size - 1]
        if anchor in seen or len(free) < size - 1:
            continue
        bags.append(Bag((anchor, *free), level))
        seen.update(bags[-1].ids)
    return bags


def make_bag_file(bags: Sequence[Bag], model: str = "") -> BagFile:
    """A bag file of disjoint bags of one size: each image's neighbours are the others of its bag, in the bag's order.

    `partition` of its only level at `about["size"]`, with equal similarities, gives the bags again.

    Raises:
        BagError: no bags, or an image that stands in two, or twice in one.
    """
    if not bags:
        raise BagError("there are no bags to make a bag file of")
    counts = Counter(id for bag in bags for id in bag.ids)
    if repeated := sorted(id for id, count in counts.items() if count > 1):
        raise BagError(
            f"{_some(repeated)} stand in more than one bag, or twice in one; an image has one list of neighbours"
        )
    lists = {id: tuple(other for other in bag.ids if other != id) for bag in bags for id in bag.ids}
    return BagFile(model, {bags[0].level: lists}, about={"bags": len(bags), "size": len(bags[0].ids)})


def random_distractors(ids: Iterable[str], size: int, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """For each id, `size - 1` others by chance: a bag of `size` (RD100: 100).

    An image's draw depends on (seed, its id, the set of ids), not on their order.

    Raises:
        BagError: fewer than `size` ids.
    """
    pool = sorted(set(ids))
    if not 2 <= size <= len(pool):
        raise BagError(f"a random bag of {size} can't be drawn from {len(pool)} images; choose 2 to {len(pool)}")
    drawn = {}
    for position, id in enumerate(pool):
        generator = random.Random(hashlib.sha256(f"{seed}:{id}".encode()).digest())
        # draw among the others: positions from the image's own on are shifted by one
        drawn[id] = tuple(pool[p + (p >= position)] for p in generator.sample(range(len(pool) - 1), size - 1))
    return drawn


def is_bag_file(path: str | os.PathLike) -> bool:
    """Whether a JSON file is a bag file by its form (an object), and not a TrueMatch file (a list). BagError: not JSON."""
    return isinstance(_read_json(path), dict)


def read_truematch(path: str | os.PathLike, known: Iterable[str] | None = None) -> list[Bag]:
    """Bags of a TrueMatch file: a JSON list of lists of ids (numbers or strings), all of one size.

    Raises:
        BagError: another form, bags of several sizes, or, with `known`, ids that are not among them.
    """
    data = _read_json(path)
    if not isinstance(data, list) or not all(isinstance(bag, list) and len(bag) > 1 for bag in data) or not data:
        raise BagError(f"{path} is not a TrueMatch file: it must be a list of lists of two or more image ids")
    if strange := [id for bag in data for id in bag if isinstance(id, bool) or not isinstance(id, int | str)]:
        raise BagError(f"{path} holds {strange[0]!r:.60} where an image id should stand, a whole number or a text")
    if len(sizes := sorted({len(bag) for bag in data})) > 1:
        raise BagError(f"{path} mixes bags of {', '.join(map(str, sizes))} images; one file holds one size")
    bags = [Bag(tuple(map(str, bag))) for bag in data]
    if known is not None:
        _refuse_unknown(str(path), (id for bag in bags for id in bag.ids), set(known))
    return bags


def write_truematch(bags: Iterable[Bag], path: str | os.PathLike) -> None:
    """The bags as TrueMatch JSON; ids that are plain whole numbers become numbers, as COCO's are there."""
    _write_json(path, [[int(id) if id.isdigit() and str(int(id)) == id else id for id in bag.ids] for bag in bags])


def _refuse_unknown(
    where: str, ids: Iterable[str], known: set[str], fix: str = "remove them or add their images"
) -> None:
    if unknown := sorted(set(ids) - known):
        raise BagError(f"{where} names {_some(unknown)}, which the data set does not have; {fix}")


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:5]))
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"


def _read_json(path: str | os.PathLike) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BagError(f"bag file {path} does not exist; make one with `rlcap bags mine`") from error
    except ValueError as error:
        raise BagError(f"{path} is not JSON ({error})") from error


def _write_json(path: str | os.PathLike, data: Any) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    os.replace(part, path)
