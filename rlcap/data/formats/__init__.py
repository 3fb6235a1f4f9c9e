"""The formats that a data source may have: one reader per file, from a source to unchecked rows.

| source | reader |
| --- | --- |
| `.jsonl`, `.ndjson`: an object per line; `.json`: a list of objects | `json_rows` |
| `.json` with `images` and `annotations`: COCO captions | `coco` |
| `.csv`, `.tsv`, `.parquet` | `tables` |
| a folder of `save_to_disk` | `hugging_face` |
| a folder of images, with or without a .txt file beside each | `images` |
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlcap.data.formats.coco import is_coco, read_coco
from rlcap.data.formats.hugging_face import is_saved_data_set, read_saved_data_set
from rlcap.data.formats.images import find_images, read_image_folder
from rlcap.data.formats.json_rows import read_json_lines, read_json_list
from rlcap.data.formats.rows import Row
from rlcap.data.formats.tables import read_csv, read_parquet
from rlcap.errors import DataError
from rlcap.io.text import read_json

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of the files that are read."""
_ADVICE = {
    ".tar": "it is a tar archive, as webdataset has: unpack it into a folder (tar -xf FILE -C FOLDER) and name the folder, whose "
    "images are read with the .txt file beside each",
    ".zip": "it is an archive: unpack it, and name the folder or the file of captions in it",
    ".gz": "it is compressed: unpack it first (gunzip FILE)",
    ".arrow": "it is a part of a saved data set: name the folder in which it lies",
    ".pkl": "a pickle runs code when it is read, and is refused: save the rows as .jsonl",
    ".xlsx": "it is a spreadsheet: save it as CSV",
    ".txt": "its rows have no images: write a .jsonl file with image and references",
}


def open_rows(source: Path, names: Mapping[str, str], split: str | None, cache: Path) -> Iterator[Row]:
    """Return the unchecked rows of a source.

    Args:
        source: An existing file or folder.
        names: Our name of each column → its name in the source.
        split: The split of a saved data set; None for every other source.
        cache: The folder for images that the source stores as bytes.

    Raises:
        DataError: The format is not among those that are read; the message says what to do instead.
    """
    if source.is_dir():
        return _open_folder(source, names, split, cache)
    if split is not None:
        raise DataError(f"data.split is {split!r}, but {source} is a file without splits; remove data.split")
    suffix = source.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return read_json_lines(source, names)
    if suffix in (".csv", ".tsv"):
        return read_csv(source, names)
    if suffix == ".parquet":
        return read_parquet(source, names, cache)
    if suffix == ".json":
        return _open_json(source, names)
    advice = _ADVICE.get(suffix) or f"the name does not show a format that is read ({', '.join(SUFFIXES)})"
    near = difflib.get_close_matches(suffix, SUFFIXES, 1, cutoff=0.75)
    raise DataError(f"{source} can't be read: {advice}" + (f"; did you mean {near[0]}?" if near else ""))


def _open_folder(source: Path, names: Mapping[str, str], split: str | None, cache: Path) -> Iterator[Row]:
    if is_saved_data_set(source):
        return read_saved_data_set(source, names, split, cache)
    if not find_images(source, recursive=True):
        raise DataError(
            f"{source} holds no image, and is not a folder that save_to_disk of the library `datasets` wrote; name a "
            f"folder of images or a file ({', '.join(SUFFIXES)})"
        )
    if split is not None:
        raise DataError(
            f"data.split is {split!r}, but {source} is a folder of images without splits; remove data.split"
        )
    if tables := [name for name in ("metadata.jsonl", "metadata.csv", "metadata.parquet") if (source / name).is_file()]:
        renamed = names if names["image"] != "image" else {**names, "image": "file_name"}
        return open_rows(source / tables[0], renamed, None, cache)
    return read_image_folder(source)


def _open_json(source: Path, names: Mapping[str, str]) -> Iterator[Row]:
    data = read_json(source, "data source", DataError)
    if isinstance(data, list):
        return read_json_list(source, data, names)
    if not is_coco(data):
        raise DataError(
            f"{source} is not a COCO captions file, which has 'images' and 'annotations', lists of objects, nor a list of "
            "objects; write one of them, or a .jsonl file"
        )
    if changed := {name: column for name, column in names.items() if name != column}:
        raise DataError(
            f"data.columns {changed} has no use for {source}: a COCO captions file has fixed columns; remove data.columns"
        )
    return read_coco(source, data)
