"""Reads samples from JSON Lines files, COCO captions JSON and Hugging Face data sets on disk.

    samples = load_samples("mine.jsonl")          # {"id": "a", "image": "a.jpg", "references": ["A dog."]}
    samples = load_samples("captions_val2017.json", image_root="val2017", on_bad="skip")
    print(samples.describe())
    held_out, rest = split_samples(samples, holdout=40)

A sample holds an id and the *path* of its image; the pixels are read only when they are needed. Loading checks every
image file from its header and its last bytes (0.1 ms each), and decodes each file once when it first sees the file
(rlcap.data.decoding). So a missing or broken photo stops a run at its start and not hours later. A bad row raises an
error that names the row and the file, or with `on_bad="skip"` is left out and counted.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rlcap.config.schema import COLUMNS
from rlcap.data.decoding import find_undecodable
from rlcap.errors import DataError, ImageError
from rlcap.io.cache import cache_folder
from rlcap.io.images import FORMATS, check_image
from rlcap.types import Sample

OnBad = Literal["error", "skip"]
"""What to do with a bad row: raise an error, or skip and count it."""


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
    """Samples in the order of their source, with the rows that were skipped."""

    samples: tuple[Sample, ...]
    """The usable samples."""
    skips: tuple[Skip, ...] = ()
    """The rows that were left out."""
    source: str = ""
    """Name of the source."""
    pixels: tuple[int, ...] = field(default=(), repr=False)
    """Width × height of each image according to its header; empty where the images were not checked."""

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
        """The sha256 of ids, texts and sizes of the image files, in order: 64 hex digits."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row = [sample.id, list(sample.references), sample.paragraph, os.path.getsize(sample.image)]
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
        if without_references:
            parts.append(f"{without_references:,} images without references")
        if self.pixels:
            ordered = sorted(self.pixels)
            parts.append(
                f"{ordered[len(ordered) // 2] / 1e6:.2f} megapixels at the median, {ordered[-1] / 1e6:.2f} at most"
            )
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
        parts.append(f"skipped {len(self.skips):,} rows ({skipped})" if self.skips else "no row skipped")
        return ", ".join(parts) + "."


def load_samples(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    on_bad: OnBad = "error",
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    max_pixels: int | None = None,
    cache_dir: str | os.PathLike | None = None,
    check_images: bool = True,
) -> SampleSet:
    """Load the samples of a source.

    Args:
        source: A .jsonl file with one object per line, a COCO captions .json, or a folder that
            `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote.
        image_root: The folder of relative image paths; by default the folder of the source.
        on_bad: `error` stops at the first bad row, `skip` leaves bad rows out and counts them.
        columns: Our name (id, image, references, paragraph) → the name in the source, where they differ; not for COCO.
        split: The split to load from a folder with several splits.
        max_pixels: The maximum width × height. Rows whose image header states more are bad rows. None stands for the
            limit of the process.
        cache_dir: The folder for images that a data set stores as bytes. Each is written once, under a digest of its
            content.
        check_images: Whether to check the image files; False where only the texts are needed, so that image files may
            be broken or missing.

    Raises:
        DataError: A row is bad and `on_bad` is `error`, the source can't be read, or it has no good row.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"data source {source} does not exist; check the path")
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad is {on_bad!r}; write 'error' or 'skip'")
    names: dict[str, str] = {name: name for name in COLUMNS}
    names.update(columns or {})
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise DataError(
            f"data.columns has the unknown name {', '.join(map(repr, unknown))}; known names are {', '.join(COLUMNS)}"
        )
    root = Path(image_root) if image_root is not None else (source if source.is_dir() else source.parent)
    if source.is_dir():
        cache = Path(cache_dir) if cache_dir is not None else cache_folder() / "images"
        return _collect(_hf_rows(source, names, split, cache), source, root, on_bad, max_pixels, check_images)
    if split is not None:
        raise DataError(f"data.split is {split!r}, but {source} is a file without splits; remove data.split")
    if source.suffix in (".jsonl", ".ndjson"):
        return _collect(_jsonl_rows(source, names), source, root, on_bad, max_pixels, check_images)
    if source.suffix != ".json":
        raise DataError(
            f"the name of {source} does not show its format; use .jsonl (one object per line) or .json (COCO captions)"
        )
    if columns:
        raise DataError(
            f"data.columns is for .jsonl files and data sets, but {source} is a COCO captions file, whose columns are "
            "fixed; remove data.columns"
        )
    return _collect(_coco_rows(source), source, root, on_bad, max_pixels, check_images)


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


def _subset(samples: SampleSet, ids: set[str], source: str) -> SampleSet:
    keep = [i for i, sample in enumerate(samples.samples) if sample.id in ids]
    pixels = tuple(samples.pixels[i] for i in keep) if samples.pixels else ()
    return SampleSet(tuple(samples.samples[i] for i in keep), (), source, pixels)


@dataclass(slots=True)
class _Row:
    """An unchecked row of a source."""

    where: str
    """The position of the row in the source, for messages."""
    id: Any = None
    image: Any = None
    references: Any = ()
    paragraph: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: _BadRowError | None = None
    """The error that prevented reading the row, if any."""


class _BadRowError(Exception):
    """A row can't be used. `reason` is a short stable reason, `file` the faulty file."""

    def __init__(self, reason: str, file: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.file = reason, file


def _collect(
    rows: Iterable[_Row], source: Path, root: Path, on_bad: OnBad, max_pixels: int | None, check_images: bool
) -> SampleSet:
    good: dict[str, tuple[Sample, int, str]] = {}
    skips: list[Skip] = []

    def skip_or_raise(where: str, error: _BadRowError) -> None:
        if on_bad == "error":
            raise DataError(f"{source}, {where}: {error}; or skip such rows with data.on_bad=skip") from error.__cause__
        skips.append(Skip(where, error.file, error.reason))

    for row in rows:
        try:
            sample, size = _check_row(row, source, root, max_pixels, check_images)
            if sample.id in good:
                detail = f"id {sample.id!r} is also the id of {good[sample.id][0].image}; give every row its own id"
                raise _BadRowError("duplicate id", str(source), detail)
        except _BadRowError as error:
            skip_or_raise(row.where, error)
            continue
        good[sample.id] = sample, size, row.where
    broken = find_undecodable([sample.image for sample, _, _ in good.values()]) if check_images else {}
    for sample, _, where in list(good.values()):
        if (damage := broken.get(sample.image)) is not None:
            skip_or_raise(where, _BadRowError(damage.kind, sample.image, f"id {sample.id!r}: {damage}"))
            del good[sample.id]
    samples = tuple(sample for sample, _, _ in good.values())
    result = SampleSet(samples, tuple(skips), source.name, tuple(size for _, size, _ in good.values() if size))
    if not samples:
        raise DataError(
            f"{source} has no usable row: {result.skipped or 'it is empty'}; check the path and image_root {root}"
        )
    return result


def _check_row(row: _Row, source: Path, root: Path, max_pixels: int | None, check_images: bool) -> tuple[Sample, int]:
    """Return the sample of a row and its number of pixels, which is 0 where images are not checked."""
    if row.problem is not None:
        raise row.problem
    if not isinstance(row.image, str) or not row.image.strip():
        detail = (
            f"the row has no image path (found {row.image!r}); if the column has another name, write "
            "data.columns={image: NAME}"
        )
        raise _BadRowError("no image", str(source), detail)
    id = str(row.id) if row.id is not None and str(row.id).strip() else row.image
    if not isinstance(row.references, str | list | tuple | None):
        detail = f"id {id!r} has the references {row.references!r}; write a text or a list of texts"
        raise _BadRowError("no text", str(source), detail)
    references = [row.references] if isinstance(row.references, str) else list(row.references or ())
    for text in [*references, *([] if row.paragraph is None else [row.paragraph])]:
        what = "paragraph" if text is row.paragraph else "reference"
        if not isinstance(text, str):
            detail = f"id {id!r} ({row.image}) has the {what} {text!r:.80}, which is not text"
            raise _BadRowError("no text", str(source), detail)
        if not text.strip():
            detail = f"id {id!r} ({row.image}) has an empty {what} ({text!r}); write a text or remove it"
            raise _BadRowError(f"empty {what}", str(source), detail)
    path = os.path.join(root, row.image)  # an absolute path stays unchanged
    try:
        width, height = check_image(path, max_pixels=max_pixels) if check_images else (0, 0)
    except ImageError as error:
        raise _BadRowError(error.kind, path, f"id {id!r}: {error}") from error
    texts = tuple(text.strip() for text in references)
    paragraph = row.paragraph.strip() if row.paragraph is not None else None
    return Sample(id, path, texts, paragraph, meta=row.meta), width * height


def _row_from_mapping(where: str, record: Mapping[str, Any], names: Mapping[str, str], source: Path) -> _Row:
    """Return the row of a mapping; other keys than the columns go to `meta`, but a misspelt column is a problem."""
    meta = {key: value for key, value in record.items() if key not in names.values()}
    for key in meta:
        # Where the record has a column, a similar key is no misspelling of it: image_id beside image.
        similar = difflib.get_close_matches(
            str(key).lower(), [n for n in names.values() if n not in record], 1, cutoff=0.8
        )
        if similar:
            detail = f"unknown key {key!r}, did you mean {similar[0]!r}? Rename it, or map it with data.columns"
            return _Row(where, problem=_BadRowError("misspelt key", str(source), detail))
    get = record.get
    return _Row(where, get(names["id"]), get(names["image"]), get(names["references"]), get(names["paragraph"]), meta)


def _jsonl_rows(source: Path, names: Mapping[str, str]) -> Iterator[_Row]:
    with source.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                record = json.loads(line.decode("utf-8-sig"))
                if not isinstance(record, dict):
                    raise ValueError(f"a {type(record).__name__} instead of an object")
            except UnicodeDecodeError as error:
                seen = line[error.start : error.start + 1]
                detail = f"the line is not UTF-8 (byte {seen!r} at {error.start}); save the file as UTF-8"
                yield _Row(where, problem=_BadRowError("not UTF-8", str(source), detail))
            except ValueError as error:
                detail = f"the line is not a JSON object ({error}); fix or remove it"
                yield _Row(where, problem=_BadRowError("not JSON", str(source), detail))
            else:
                yield _row_from_mapping(where, record, names, source)


def _coco_rows(source: Path) -> Iterator[_Row]:
    requirement = "it needs 'images' and 'annotations', lists of objects, in UTF-8"
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{source} is not a COCO captions file ({error}); {requirement}") from error
    lists: list[Any] = [data.get(name) for name in ("images", "annotations")] if isinstance(data, dict) else []
    if not lists or not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
        raise DataError(f"{source} is not a COCO captions file; {requirement}")
    images, annotations = lists
    captions: dict[Any, list[str]] = {}
    for number, annotation in enumerate(annotations, 1):
        if "caption" not in annotation:
            raise DataError(f"{source}: annotation {annotation.get('id')} has no caption; use the captions_*.json file")
        if "image_id" not in annotation:
            detail = f"the annotation has no image_id, only {', '.join(annotation)}"
            yield _Row(f"annotation {number}", problem=_BadRowError("no image_id", str(source), detail))
            continue
        captions.setdefault(str(annotation["image_id"]), []).append(annotation["caption"])
    for number, image in enumerate(images, 1):
        if image.get("id") is None:
            detail = f"the image has no id, only {', '.join(image)}, but annotations refer to images by their id"
            yield _Row(f"image number {number}", problem=_BadRowError("no id", str(source), detail))
            continue
        yield _Row(f"image {image['id']}", image["id"], image.get("file_name"), captions.get(str(image["id"]), ()))


def _hf_rows(source: Path, names: Mapping[str, str], split: str | None, cache: Path) -> Iterator[_Row]:
    import datasets

    try:
        data = datasets.load_from_disk(str(source))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(
            f"{source} is not a folder that save_to_disk of the library `datasets` wrote ({error})"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise DataError(
                f"{source} has the splits {', '.join(data)} but data.split is {split!r}; choose one of them, for "
                f"instance data.split={next(iter(data), 'NAME')}"
            )
        data = data[split]
    elif split is not None:
        raise DataError(f"data.split is {split!r}, but {source} was saved without splits; remove data.split")
    required = {name: column for name, column in names.items() if name == "image" or column != name}
    for name, column in required.items():
        if column not in data.column_names:
            raise DataError(
                f"{source} has no column {column!r}, only {', '.join(data.column_names)}; name the right column with "
                f"data.columns.{name}=NAME"
            )
    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            # decoding every row would be 20 times slower (pitfalls 34)
            data = data.cast_column(name, datasets.Image(decode=False))
    for number, record in enumerate(data):
        image = record[names["image"]]
        if isinstance(image, Mapping):
            record = {**record, names["image"]: _store_image(image, cache)}
        yield _row_from_mapping(f"row {number}", record, names, source)


def _store_image(image: Mapping[str, Any], cache: Path) -> str | None:
    """Return the path of an entry of an image column; bytes are first written to a file, whose name is their digest."""
    if image["bytes"] is None:
        return image["path"]
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(image["bytes"]), formats=FORMATS) as header:
            suffix = (header.format or "bin").lower()
    except (UnidentifiedImageError, OSError):
        suffix = "bin"  # write the file nevertheless, so that the check of the row can name it
    path = cache.absolute() / f"{hashlib.sha256(image['bytes']).hexdigest()}.{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(image["bytes"])
        os.replace(part, path)
    return str(path)
