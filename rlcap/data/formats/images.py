"""Rows from a folder of images, and images that a data set stores as bytes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.data.formats.rows import Row
from rlcap.errors import DataError
from rlcap.io.atomic import write_bytes
from rlcap.io.images import SUFFIXES, allowed_formats
from rlcap.io.text import read_text


def read_image_folder(source: Path) -> Iterator[Row]:
    """Yield a row for each image below a folder, in the order of the paths.

    The id is the path within the folder without its suffix. A text file of the same name beside the image, as webdataset has after
    unpacking, holds the reference.

    Raises:
        DataError: A text file is not UTF-8.
    """
    for path in find_images(source, recursive=True):
        text = path.with_suffix(".txt")
        references = [read_text(text, "caption file", DataError)] if text.is_file() else []
        name = path.relative_to(source)
        yield Row(f"image {name}", name.with_suffix("").as_posix(), str(name), references)


def find_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the files of a folder whose names end as images do, in the order of the paths, without hidden ones."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        found += [Path(root) / name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    return sorted(found)


def store_image(image: Mapping[str, Any], cache: Path) -> str | None:
    """Return the path of an entry of an image column; bytes are first written to a file, whose name is their digest.

    Args:
        image: {bytes, path}, of which one may be None.
        cache: The folder for the files.
    """
    from PIL import Image

    if image.get("bytes") is None:
        return image.get("path")
    try:
        with Image.open(io.BytesIO(image["bytes"]), formats=allowed_formats()) as header:
            suffix = (header.format or "bin").lower()
    except Exception:  # each decoder raises its own types; write the file nevertheless, so that the check can name it
        suffix = "bin"
    path = cache.absolute() / f"{hashlib.sha256(image['bytes']).hexdigest()}.{suffix}"
    if not path.exists():
        write_bytes(path, image["bytes"], "an image of the data set")
    return str(path)
