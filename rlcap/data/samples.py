"""A loaded data set: its samples, what was left out, and how to split it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlcap.errors import DataError
from rlcap.io.images import content_key
from rlcap.types import Sample


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that was left out."""

    row: str
    """The position of the row in the source: "line 3", "image 139"."""
    file: str
    """The faulty file: an image or the source."""
    reason: str
    """A short stable reason, such as "missing image"."""


@dataclass(frozen=True)
class SampleSet(Sequence[Sample]):
    """Samples in the order of their source, with the rows that were skipped. No two samples show the same image."""

    samples: tuple[Sample, ...]
    """The usable samples."""
    skips: tuple[Skip, ...] = ()
    """The rows that were left out."""
    source: str = ""
    """Name of the source."""
    pixels: tuple[int, ...] = field(default=(), repr=False)
    """Width × height of each image according to its header; empty where the images were not checked."""
    merged: int = 0
    """Rows whose texts went to an earlier row of the same image."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    @cached_property
    def by_id(self) -> dict[str, Sample]:
        """Id → sample."""
        return {sample.id: sample for sample in self.samples}

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → the number of rows that were skipped for it."""
        return dict(Counter(skip.reason for skip in self.skips))

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of ids, texts, controls and sizes of the image files, in order: 64 hex digits."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row: list[Any] = [sample.id, list(sample.references), sample.paragraph, os.path.getsize(sample.image)]
            row += [sample.control.to_dict()] if sample.control else []
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    def describe(self) -> str:
        """Return a paragraph about the samples, for the start of a run."""
        references = sum(len(sample.references) for sample in self.samples)
        paragraphs = sum(sample.paragraph is not None for sample in self.samples)
        without_references = sum(not sample.references for sample in self.samples)
        parts = [
            f"{len(self):,} images from {self.source or 'memory'}",
            f"{references:,} references",
            f"{paragraphs:,} paragraphs",
        ]
        if controlled := sum(bool(sample.control) for sample in self.samples):
            parts.append(f"{controlled:,} images with a control")
        if without_references:
            parts.append(f"{without_references:,} images without references")
        if self.merged:
            parts.append(f"{self.merged:,} rows joined to an earlier row of the same image")
        if self.pixels:
            ordered = sorted(self.pixels)
            parts.append(
                f"{ordered[len(ordered) // 2] / 1e6:.2f} megapixels at the median, {ordered[-1] / 1e6:.2f} at most"
            )
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
        parts.append(f"skipped {len(self.skips):,} rows ({skipped})" if self.skips else "no row skipped")
        return ", ".join(parts) + "."


def split_samples(samples: SampleSet, holdout: int | float, seed: int = 0) -> tuple[SampleSet, SampleSet]:
    """Split samples into (held out, rest), each in the order of the source.

    The images are sorted by a hash of (seed, id), and the first ones are held out. So the choice does not depend on the
    order of the source, and mostly remains the same when the data set grows.

    Args:
        samples: The samples to split.
        holdout: A number of images (int), or a share of them (float in (0, 1)).
        seed: Seed of the choice.

    Raises:
        DataError: One of the two parts would be empty.
    """
    count = round(holdout * len(samples)) if isinstance(holdout, float) else holdout
    if not 0 < count < len(samples):
        raise DataError(
            f"holdout {holdout} splits {len(samples)} images into {count} and {len(samples) - count}; both parts need "
            "images"
        )
    ranked = sorted(samples.by_id, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest())
    held_out = set(ranked[:count])
    return (
        _subset(samples, held_out, f"held out of {samples.source}"),
        _subset(samples, set(ranked[count:]), samples.source),
    )


def find_same_images(paths: Iterable[str]) -> dict[str, str]:
    """Return path → the first path with the same bytes, for each path that is not the first of its image.

    Two files with the same bytes have the same size, so that only files of equal size are read.

    Args:
        paths: Image files, which must exist; a path may repeat.

    Raises:
        ImageError: A file can't be read.
    """
    of_size: defaultdict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        of_size[os.path.getsize(path)].append(path)
    same: dict[str, str] = {}
    for group in of_size.values():
        first_with: dict[str, str] = {}
        for path in group if len(group) > 1 else ():
            first = first_with.setdefault(content_key(path), path)
            if first != path:
                same[path] = first
    return same


def check_distinct_images(splits: Mapping[str, Sequence[Sample]]) -> None:
    """Check that no image stands twice in a data set, neither in two splits nor in one.

    An image in two splits makes the held-out numbers worthless. An image that stands twice in one split makes the best caption look
    as bad as a coin toss, because its bag then holds its own image as a distractor.

    Raises:
        DataError: Two samples show the same image; the message names both.
    """
    rows = [(name, sample) for name, samples in splits.items() for sample in samples]
    same = find_same_images(sample.image for _, sample in rows if os.path.isfile(sample.image))
    seen: dict[str, tuple[str, Sample]] = {}
    twice: list[tuple[tuple[str, Sample], tuple[str, Sample]]] = []
    for row in rows:
        first = seen.setdefault(same.get(row[1].image, row[1].image), row)
        if first is not row:
            twice.append((first, row))
    if not twice:
        return
    leaks = [pair for pair in twice if pair[0][0] != pair[1][0]]
    (first_split, first_sample), (split, sample) = (leaks or twice)[0]
    where = f"in {first_split} and in {split}" if leaks else f"twice in {split}"
    raise DataError(
        f"{len(leaks or twice)} images stand {where}, such as {sample.image}, the image of {first_sample.id!r} and of "
        f"{sample.id!r}; give each image one row, in one split"
    )


def _subset(samples: SampleSet, ids: set[str], source: str) -> SampleSet:
    keep = [i for i, sample in enumerate(samples.samples) if sample.id in ids]
    pixels = tuple(samples.pixels[i] for i in keep) if samples.pixels else ()
    return SampleSet(tuple(samples.samples[i] for i in keep), (), source, pixels)
