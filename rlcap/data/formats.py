"""Where rows come from: jsonl files, COCO captions JSON, Hugging Face data sets on disk.

    samples = load_samples("mine.jsonl")                                   # {"id": "a", "image": "a.jpg", "references": ["A dog."]}
    samples = load_samples("captions_val2017.json", image_root="val2017", on_bad="skip")
    print(samples.describe())
    held_out, rest = split_samples(samples, holdout=40)

A row holds an id and an image *path*; pixels stay on disk until somebody looks. Every file is checked at load, from its
header and its last bytes (0.1 ms each), and the first time that it is seen by decoding it (rlcap.data.decoding), so that
a missing or broken photo stops the start of a run and not its third hour. A bad row is an error that names the row and
the file, or with `on_bad="skip"` a counted skip.
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
from rlcap.io.embedding_cache import default_cache
from rlcap.io.images import ImageError, check_image
from rlcap.types import InputError, Sample

OnBad = Literal["error", "skip"]


class DataError(InputError):
    """Data that can't be used. The message names the row and file, what was seen and what to do."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A row that was left out."""

    row: str
    """Where it stood: "line 3", "image 139"."""
    file: str
    """The file at fault: the image's, or the source's."""
    reason: str
    """A short stable reason, such as "missing image"."""


@dataclass(frozen=True)
class SampleSet(Sequence[Sample]):
    """Samples in the order of their source, and what was skipped."""

    samples: tuple[Sample, ...]
    skips: tuple[Skip, ...] = ()
    source: str = ""
    pixels: tuple[int, ...] = field(default=(), repr=False)
    """Width × height of each image, as its header says."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

    @cached_property
    def by_id(self) -> dict[str, Sample]:
        return {sample.id: sample for sample in self.samples}

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → how many rows."""
        return dict(Counter(skip.reason for skip in self.skips))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over ids, texts and sizes of the image files, in order: 64 hex digits."""
        digest = hashlib.sha256()
        for sample in self.samples:
            row = [sample.id, list(sample.references), sample.paragraph, os.path.getsize(sample.image)]
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    def describe(self) -> str:
        """One paragraph for the start of a run."""
        references = sum(len(sample.references) for sample in self.samples)
        paragraphs = sum(sample.paragraph is not None for sample in self.samples)
        bare = sum(not sample.references for sample in self.samples)
        parts = [
            f"{len(self):,} images from {self.source or 'memory'}",
            f"{references:,} references",
            f"{paragraphs:,} paragraphs",
        ]
        if bare:
            parts.append(f"{bare:,} images without references")
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
    """The samples of a source.

    Args:
        source: a .jsonl file (an object a line), a COCO captions .json, or the folder that `datasets.Dataset.save_to_disk`
            or `DatasetDict.save_to_disk` wrote.
        image_root: folder that relative image paths start from; by default the source's own folder.
        on_bad: `error` stops at the first bad row, `skip` leaves bad rows out and counts them.
        columns: our name (id, image, references, paragraph) → the source's, where they differ; not for COCO's.
        split: the split to take of a folder that holds several.
        max_pixels: images with more, by their header, are bad rows; None for the process's limit.
        cache_dir: where images that a data set stores as bytes are written, once, by content.
        check_images: False where texts alone are wanted: image files may be broken, or not be there.

    Raises:
        DataError: a bad row with `on_bad="error"`, a source that can't be read, or one without any good row.
    """
    source = Path(source)
    if not source.exists():
        raise DataError(f"data source {source} does not exist; check the path")
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad is {on_bad!r}; write 'error' or 'skip'")
    names = {**{name: name for name in COLUMNS}, **(columns or {})}
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise DataError(f"data.columns: unknown {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)}")
    root = Path(image_root) if image_root is not None else (source if source.is_dir() else source.parent)
    if source.is_dir():
        cache = Path(cache_dir) if cache_dir is not None else default_cache() / "images"
        return _collect(_hf_rows(source, names, split, cache), source, root, on_bad, max_pixels, check_images)
    if split is not None:
        raise DataError(f"data.split is {split!r}, but {source} is one file without splits; leave data.split out")
    if source.suffix in (".jsonl", ".ndjson"):
        return _collect(_jsonl_rows(source, names), source, root, on_bad, max_pixels, check_images)
    if source.suffix != ".json":
        raise DataError(
            f"can't tell what {source} is from its name: .jsonl (an object a line) or .json (COCO captions)"
        )
    if columns:
        raise DataError(f"data.columns is for .jsonl files and data sets; {source} is COCO captions, which has its own")
    return _collect(_coco_rows(source), source, root, on_bad, max_pixels, check_images)


def split_samples(samples: SampleSet, holdout: int | float, seed: int = 0) -> tuple[SampleSet, SampleSet]:
    """(held out, rest), each in the order of the source.

    The images whose hashed (seed, id) come first are held out: the choice depends on no order, and a data set that grows
    keeps most of it.

    Args:
        holdout: a number of images (int), or a share of them (float in (0, 1)).

    Raises:
        DataError: nothing would be held out, or nothing would remain.
    """
    count = round(holdout * len(samples)) if isinstance(holdout, float) else holdout
    if not 0 < count < len(samples):
        raise DataError(
            f"holdout {holdout} of {len(samples)} images leaves {count} and {len(samples) - count}; both need some"
        )
    ranked = sorted(samples.by_id, key=lambda id: hashlib.sha256(f"{seed}:{id}".encode()).digest())
    held = set(ranked[:count])
    return (
        _subset(samples, held, f"held out of {samples.source}"),
        _subset(samples, set(ranked[count:]), samples.source),
    )


def _subset(samples: SampleSet, ids: set[str], source: str) -> SampleSet:
    keep = [i for i, sample in enumerate(samples.samples) if sample.id in ids]
    pixels = tuple(samples.pixels[i] for i in keep) if samples.pixels else ()
    return SampleSet(tuple(samples.samples[i] for i in keep), (), source, pixels)


@dataclass(slots=True)
class _Row:
    """What a source knows of an image, unchecked."""

    where: str
    id: Any = None
    image: Any = None
    references: Any = ()
    paragraph: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: _BadRow | None = None
    """Why nothing else could be read."""


class _BadRow(Exception):
    def __init__(self, reason: str, file: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.file = reason, file


def _collect(
    rows: Iterable[_Row], source: Path, root: Path, on_bad: OnBad, max_pixels: int | None, check_images: bool
) -> SampleSet:
    good: dict[str, tuple[Sample, int, str]] = {}
    skips: list[Skip] = []

    def refuse(where: str, bad: _BadRow) -> None:
        if on_bad == "error":
            raise DataError(f"{source}, {where}: {bad}; or leave such rows out: data.on_bad=skip") from bad.__cause__
        skips.append(Skip(where, bad.file, bad.reason))

    for row in rows:
        try:
            sample, size = _checked(row, source, root, max_pixels, check_images)
            if sample.id in good:
                detail = f"id {sample.id!r} is already that of {good[sample.id][0].image}; give every row its own id"
                raise _BadRow("duplicate id", str(source), detail)
        except _BadRow as bad:
            refuse(row.where, bad)
            continue
        good[sample.id] = sample, size, row.where
    broken = find_undecodable([sample.image for sample, _, _ in good.values()]) if check_images else {}
    for sample, _, where in list(good.values()):
        if (error := broken.get(sample.image)) is not None:
            refuse(where, _BadRow(error.kind, sample.image, f"id {sample.id!r}: {error}"))
            del good[sample.id]
    samples = tuple(sample for sample, _, _ in good.values())
    result = SampleSet(samples, tuple(skips), source.name, tuple(size for _, size, _ in good.values() if size))
    if not samples:
        raise DataError(
            f"{source} has no usable row: {result.skipped or 'it is empty'}; check the path and image_root {root}"
        )
    return result


def _checked(row: _Row, source: Path, root: Path, max_pixels: int | None, check_images: bool) -> tuple[Sample, int]:
    """The sample of a row and its pixels, 0 where nobody looked."""
    if row.problem is not None:
        raise row.problem
    if not isinstance(row.image, str) or not row.image.strip():
        detail = f"the row has no image path (saw {row.image!r}); where the source calls it otherwise: data.columns={{image: ITS NAME}}"
        raise _BadRow("no image", str(source), detail)
    id = str(row.id) if row.id is not None and str(row.id).strip() else row.image
    if not isinstance(row.references, str | list | tuple | None):
        detail = f"id {id!r} has references {row.references!r}; write a text or a list of texts"
        raise _BadRow("no text", str(source), detail)
    references = [row.references] if isinstance(row.references, str) else list(row.references or ())
    for text in [*references, *([] if row.paragraph is None else [row.paragraph])]:
        what = "paragraph" if text is row.paragraph else "reference"
        if not isinstance(text, str):
            detail = f"id {id!r} ({row.image}) has the {what} {text!r:.80}, which is not text"
            raise _BadRow("no text", str(source), detail)
        if not text.strip():
            detail = f"id {id!r} ({row.image}) has an empty {what} ({text!r}); write a text or leave it out"
            raise _BadRow(f"empty {what}", str(source), detail)
    path = os.path.join(root, row.image)  # an absolute path stays what it is
    try:
        width, height = check_image(path, max_pixels=max_pixels) if check_images else (0, 0)
    except ImageError as error:
        raise _BadRow(error.kind, path, f"id {id!r}: {error}") from error
    texts = tuple(text.strip() for text in references)
    paragraph = row.paragraph.strip() if row.paragraph is not None else None
    return Sample(id, path, texts, paragraph, meta=row.meta), width * height


def _from_mapping(where: str, record: Mapping[str, Any], names: Mapping[str, str], source: Path) -> _Row:
    meta = {key: value for key, value in record.items() if key not in names.values()}
    for key in meta:
        # A row that has the name itself may have others like it: image beside image_id.
        near = difflib.get_close_matches(
            str(key).lower(), [n for n in names.values() if n not in record], 1, cutoff=0.8
        )
        if near:
            detail = f"unknown key {key!r}, did you mean {near[0]!r}? Rename it, or map it with data.columns"
            return _Row(where, problem=_BadRow("misspelt key", str(source), detail))
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
                yield _Row(where, problem=_BadRow("not UTF-8", str(source), detail))
            except ValueError as error:
                detail = f"the line is not a JSON object ({error}); fix or remove it"
                yield _Row(where, problem=_BadRow("not JSON", str(source), detail))
            else:
                yield _from_mapping(where, record, names, source)


def _coco_rows(source: Path) -> Iterator[_Row]:
    needs = "it needs 'images' and 'annotations', lists of objects, in UTF-8"
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{source} is not a COCO captions file ({error}); {needs}") from error
    lists = [data.get(name) for name in ("images", "annotations")] if isinstance(data, dict) else []
    if not lists or not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
        raise DataError(f"{source} is not a COCO captions file; {needs}")
    images, annotations = lists
    captions: dict[Any, list[str]] = {}
    for number, annotation in enumerate(annotations, 1):
        if "caption" not in annotation:
            raise DataError(
                f"{source}: annotation {annotation.get('id')} has no caption; take the captions_*.json file"
            )
        if "image_id" not in annotation:
            detail = f"it has no image_id, only {', '.join(annotation)}"
            yield _Row(f"annotation {number}", problem=_BadRow("no image_id", str(source), detail))
            continue
        captions.setdefault(str(annotation["image_id"]), []).append(annotation["caption"])
    for number, image in enumerate(images, 1):
        if image.get("id") is None:
            detail = f"it has no id, only {', '.join(image)}: annotations name images by it"
            yield _Row(f"image number {number}", problem=_BadRow("no id", str(source), detail))
            continue
        yield _Row(f"image {image['id']}", image["id"], image.get("file_name"), captions.get(str(image["id"]), ()))


def _hf_rows(source: Path, names: Mapping[str, str], split: str | None, cache: Path) -> Iterator[_Row]:
    import datasets

    try:
        data = datasets.load_from_disk(str(source))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{source} is not a data set that save_to_disk of `datasets` wrote ({error})") from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise DataError(
                f"{source} holds the splits {', '.join(data)}; choose one: data.split={next(iter(data), 'NAME')} (saw {split!r})"
            )
        data = data[split]
    elif split is not None:
        raise DataError(f"data.split is {split!r}, but {source} was saved without splits; leave data.split out")
    wanted = {name: column for name, column in names.items() if name == "image" or column != name}
    for name, column in wanted.items():
        if column not in data.column_names:
            raise DataError(
                f"{source} has no column {column!r}; it has {', '.join(data.column_names)}: say which, data.columns.{name}=NAME"
            )
    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(
                name, datasets.Image(decode=False)
            )  # decoding every row is 20 times slower (pitfalls 34)
    for number, record in enumerate(data):
        image = record[names["image"]]
        if isinstance(image, Mapping):
            record = {**record, names["image"]: _stored_image(image, cache)}
        yield _from_mapping(f"row {number}", record, names, source)


def _stored_image(image: Mapping[str, Any], cache: Path) -> str | None:
    """The path of an image column's entry; bytes are written to a file named by their content, once."""
    if image["bytes"] is None:
        return image["path"]
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(image["bytes"])) as header:
            suffix = (header.format or "bin").lower()
    except (UnidentifiedImageError, OSError):
        suffix = "bin"  # written all the same, so that the check of the row can name it
    path = cache.absolute() / f"{hashlib.sha256(image['bytes']).hexdigest()}.{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(image["bytes"])
        os.replace(part, path)
    return str(path)
