"""Loads a data source: reads its rows, checks each of them, and joins the rows of one image.

    samples = load_samples("mine.jsonl")          # {"id": "a", "image": "a.jpg", "references": ["A dog."]}
    samples = load_samples("captions_val2017.json", image_root="val2017", on_bad="skip")
    print(samples.describe())
    held_out, rest = split_samples(samples, holdout=40)

A sample holds an id and the *path* of its image; the pixels are read only when they are needed. Loading checks every
image file from its header and its last bytes (0.1 ms each), and decodes each file once when it first sees the file
(rlcap.data.decoding). So a missing or broken photo stops a run at its start and not hours later. A bad row raises an
error that names the row and the file, or with `on_bad="skip"` is left out and counted.

Images are identified by their content. Rows of one image, as a table with a line per caption has, become one sample
with all references.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rlcap.config.schema import COLUMNS
from rlcap.data.decoding import find_undecodable
from rlcap.data.formats import open_rows
from rlcap.data.formats.rows import LIKELY_IMAGE, LIKELY_REFERENCES, BadRowError, Row, suggest_column
from rlcap.data.samples import SampleSet, Skip, find_same_images
from rlcap.errors import DataError, ImageError
from rlcap.io.cache import cache_folder
from rlcap.io.images import check_image
from rlcap.types import Control, Sample, says_something

OnBad = Literal["error", "skip"]
"""What to do with a bad row: raise an error, or skip and count it."""


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
        source: A .jsonl file with one object per line, a .json file with a list of objects or COCO captions, a .csv, .tsv
            or .parquet table, a folder of images, or a folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk`
            of the library `datasets` wrote. `~` stands for the home folder.
        image_root: The folder of relative image paths; by default the folder of the source.
        on_bad: `error` stops at the first bad row, `skip` leaves bad rows out and counts them.
        columns: Our name (id, image, references, paragraph, control) → the name in the source, where they differ; not for COCO.
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
    source, root = _check_source(source, image_root, on_bad)
    cache = Path(cache_dir) if cache_dir is not None else cache_folder() / "images"
    try:
        rows = open_rows(source, _check_columns(columns), split, cache)
        return _collect(rows, source, root, on_bad, max_pixels, check_images)
    except OSError as error:
        raise DataError(f"data source {source} can't be read: {error.strerror or error}") from error


def stream_samples(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    on_bad: OnBad = "error",
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    check_images: bool = True,
    skips: list[Skip] | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a source row by row, in constant memory where the format allows it.

    Unlike `load_samples`, rows of one image are not joined, and images are checked by their headers only.

    Args:
        source: As for `load_samples`, as are the other arguments.
        image_root: The folder of relative image paths.
        on_bad: What to do with a bad row.
        columns: Our name → the name in the source.
        split: The split to load.
        check_images: Whether to check the image files.
        skips: A list that gets the rows that were skipped; None where they are not wanted.

    Raises:
        DataError: A row is bad and `on_bad` is `error`, or the source can't be read.
    """
    source, root = _check_source(source, image_root, on_bad)
    bad = _BadRows(source, on_bad)
    if skips is not None:
        bad.skips = skips
    try:
        for row in open_rows(source, _check_columns(columns), split, cache_folder() / "images"):
            try:
                sample = _check_row(row, source, root, None, check_images).sample
            except BadRowError as error:
                bad.add(row.where, error)
                continue
            yield sample
    except OSError as error:
        raise DataError(f"data source {source} can't be read: {error.strerror or error}") from error


def _check_source(source: str | os.PathLike, image_root: str | os.PathLike | None, on_bad: OnBad) -> tuple[Path, Path]:
    """Return the paths of a source and of the folder of its images."""
    if "://" in os.fspath(source):
        raise DataError(
            f"data source {source} is an address on the web, which is not fetched; download it and name the file"
        )
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"data source {path} does not exist; check the path")
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad is {on_bad!r}; write 'error' or 'skip'")
    root = Path(image_root).expanduser() if image_root is not None else (path if path.is_dir() else path.parent)
    return path, root


def _check_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Return our name of each column → its name in the source."""
    names: dict[str, str] = {name: name for name in COLUMNS}
    names.update(columns or {})
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise DataError(
            f"data.columns has the unknown name {', '.join(map(repr, unknown))}; known names are {', '.join(COLUMNS)}"
        )
    return names


@dataclass(frozen=True, slots=True)
class _Checked:
    """A row whose texts and image header are good."""

    sample: Sample
    pixels: int
    where: str


class _BadRows:
    """Raises the problem of a bad row, or counts the row, as `data.on_bad` says."""

    def __init__(self, source: Path, on_bad: OnBad) -> None:
        self.source, self.on_bad = source, on_bad
        self.skips: list[Skip] = []

    def add(self, where: str, error: BadRowError) -> None:
        if self.on_bad == "error":
            raise DataError(
                f"{self.source}, {where}: {error}; or skip such rows with data.on_bad=skip"
            ) from error.__cause__
        self.skips.append(Skip(where, error.file, error.reason))


def _collect(
    rows: Iterable[Row], source: Path, root: Path, on_bad: OnBad, max_pixels: int | None, check_images: bool
) -> SampleSet:
    bad = _BadRows(source, on_bad)
    checked: list[_Checked] = []
    image_of_id: dict[str, str] = {}
    suggestion: str | None = None
    for row in rows:
        try:
            found = _check_row(row, source, root, max_pixels, check_images)
            id, image = found.sample.id, found.sample.image
            if image_of_id.setdefault(id, image) != image:
                detail = f"id {id!r} is also the id of {image_of_id[id]}; give every image its own id"
                raise BadRowError("duplicate id", str(source), detail)
        except BadRowError as error:
            bad.add(row.where, error)
            continue
        checked.append(found)
        suggestion = suggestion or suggest_column(row.meta, "references", LIKELY_REFERENCES)
    if check_images:
        checked = _drop_undecodable(checked, bad)
    unique = _join_rows(checked, bad, compare_files=check_images)
    n_second = sum(skip.reason in (_TWO_PARAGRAPHS, _TWO_CONTROLS) for skip in bad.skips)
    result = SampleSet(
        samples=tuple(row.sample for row in unique),
        skips=tuple(bad.skips),
        source=source.name,
        pixels=tuple(row.pixels for row in unique if row.pixels),
        merged=len(checked) - len(unique) - n_second,
    )
    if not unique:
        raise DataError(
            f"{source} has no usable row: {result.skipped or 'it is empty'}; check the path and image_root {root}"
        )
    if suggestion and not any(sample.references or sample.paragraph for sample in result.samples):
        name = suggestion.partition("=")[2]
        raise DataError(
            f"{source} has no references and no paragraph, but a column {name!r}: read it with {suggestion}, or give the "
            "column another name if it holds no captions by people"
        )
    return result


def _drop_undecodable(rows: list[_Checked], bad: _BadRows) -> list[_Checked]:
    broken = find_undecodable([row.sample.image for row in rows])
    for row in rows:
        if (damage := broken.get(row.sample.image)) is not None:
            bad.add(row.where, BadRowError(damage.kind, row.sample.image, f"id {row.sample.id!r}: {damage}"))
    return [row for row in rows if row.sample.image not in broken]


def _join_rows(rows: list[_Checked], bad: _BadRows, compare_files: bool) -> list[_Checked]:
    """Return one row for each image. Without `compare_files`, an image is known by its path alone."""
    same = find_same_images(row.sample.image for row in rows) if compare_files else {}
    joined: dict[str, _Checked] = {}
    for row in rows:
        image = same.get(row.sample.image, row.sample.image)
        try:
            joined[image] = _join(joined[image], row, bad.source) if image in joined else row
        except BadRowError as error:
            bad.add(row.where, error)
    return list(joined.values())


_TWO_PARAGRAPHS = "second paragraph"
_TWO_CONTROLS = "second control"


def _join(first: _Checked, second: _Checked, source: Path) -> _Checked:
    """Return the first row of an image with the texts of the second added.

    Raises:
        BadRowError: The two rows have different paragraphs or controls.
    """
    one, two = first.sample, second.sample
    if one.paragraph and two.paragraph and one.paragraph != two.paragraph:
        detail = f"id {two.id!r} shows the image of id {one.id!r} and has another paragraph; keep one of the two"
        raise BadRowError(_TWO_PARAGRAPHS, str(source), detail)
    if one.control and two.control and one.control != two.control:
        detail = f"id {two.id!r} shows the image of id {one.id!r} and has another control; keep one of the two"
        raise BadRowError(_TWO_CONTROLS, str(source), detail)
    references = tuple(dict.fromkeys((*one.references, *two.references)))
    meta = {**two.meta, **one.meta}
    paragraph, control = one.paragraph or two.paragraph, one.control or two.control
    sample = replace(one, references=references, paragraph=paragraph, meta=meta, control=control)
    return replace(first, sample=sample)


def _check_row(row: Row, source: Path, root: Path, max_pixels: int | None, check_images: bool) -> _Checked:
    """Return the sample of a row, whose number of pixels is 0 where images are not checked."""
    if row.problem is not None:
        raise row.problem
    if not isinstance(row.image, str) or not row.image.strip():
        likely = suggest_column(row.meta, "image", LIKELY_IMAGE) or "data.columns.image=NAME"
        detail = f"the row has no image path (found {row.image!r:.80}); if the column has another name, write {likely}"
        raise BadRowError("no image", str(source), detail)
    id = str(row.id) if row.id is not None and str(row.id).strip() else row.image
    if not isinstance(row.references, str | list | tuple | None):
        detail = f"id {id!r} has the references {row.references!r:.80}; write a text or a list of texts"
        raise BadRowError("no text", str(source), detail)
    references = [row.references] if isinstance(row.references, str) else list(row.references or ())
    for text in [*references, *([] if row.paragraph is None else [row.paragraph])]:
        what = "paragraph" if text is row.paragraph else "reference"
        if not isinstance(text, str):
            detail = f"id {id!r} ({row.image}) has the {what} {text!r:.80}, which is not text"
            raise BadRowError("no text", str(source), detail)
        if not says_something(text):
            detail = f"id {id!r} ({row.image}) has an empty {what} ({text!r}); write a text or remove it"
            raise BadRowError(f"empty {what}", str(source), detail)
    try:
        control = Control.parse(row.control)
    except ValueError as error:
        raise BadRowError("bad control", str(source), f"id {id!r} ({row.image}): {error}") from error
    if "://" in row.image:
        detail = f"id {id!r} has the web address {row.image:.120}, which is not fetched; download the images first"
        raise BadRowError("web address", str(source), detail)
    path = os.path.join(root, os.path.expanduser(row.image))  # an absolute path stays unchanged
    try:
        width, height = check_image(path, max_pixels=max_pixels) if check_images else (0, 0)
    except ImageError as error:
        raise BadRowError(error.kind, path, f"id {id!r}: {error}") from error
    texts = tuple(text.strip() for text in references)
    paragraph = row.paragraph.strip() if row.paragraph is not None else None
    cluster = "" if row.meta.get("cluster") is None else str(row.meta["cluster"]).strip()
    sample = Sample(id, path, texts, paragraph, meta=row.meta, cluster=cluster, control=control)
    return _Checked(sample, width * height, row.where)
