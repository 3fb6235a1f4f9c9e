"""Rows from a COCO captions file: `images` with their ids, and `annotations` that refer to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.data.formats.rows import BadRowError, Row
from rlcap.errors import DataError

MAX_ORPHANS = 0.5
"""Largest share of annotations whose image is not in the file. Where more refer to other images, the ids do not fit each other."""

_WHOLE_NUMBER = re.compile(r"0*([0-9]+)(?:\.0*)?")


def is_coco(data: Any) -> bool:
    """Return whether a JSON value has the two lists of a COCO captions file."""
    lists = [data.get(name) for name in ("images", "annotations")] if isinstance(data, dict) else []
    return bool(lists) and all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists)


def read_coco(source: Path, data: Mapping[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """Yield the row of each image with the captions of its annotations.

    Ids are compared as numbers where they are numbers: 139, "139", "000000000139" and 139.0, as pandas writes a column with gaps, are
    one id.

    Raises:
        DataError: An annotation has no caption, or more than half of the annotations refer to no image of the file.
    """
    captions: dict[str, list[Any]] = {}
    ids = {comparable_id(image["id"]) for image in data["images"] if image.get("id") is not None}
    orphans: list[tuple[int, Any]] = []
    for number, annotation in enumerate(data["annotations"], 1):
        if "caption" not in annotation:
            raise DataError(f"{source}: annotation {annotation.get('id')} has no caption; use the captions_*.json file")
        if annotation.get("image_id") is None:
            detail = f"the annotation has no image_id, only {', '.join(annotation)}"
            yield Row(f"annotation {number}", problem=BadRowError("no image_id", str(source), detail))
            continue
        id = comparable_id(annotation["image_id"])
        if id not in ids:
            orphans.append((number, annotation["image_id"]))
        captions.setdefault(id, []).append(annotation["caption"])
    if len(orphans) > MAX_ORPHANS * len(data["annotations"]):
        raise DataError(
            f"{source}: {len(orphans):,} of {len(data['annotations']):,} annotations refer to no image of the file: "
            f"annotation {orphans[0][0]} has image_id {orphans[0][1]!r}, the first image has id "
            f"{data['images'][0].get('id') if data['images'] else None!r}; use the file that belongs to these images"
        )
    for number, image in enumerate(data["images"], 1):
        if image.get("id") is None:
            detail = f"the image has no id, only {', '.join(image)}, but annotations refer to images by their id"
            yield Row(f"image number {number}", problem=BadRowError("no id", str(source), detail))
            continue
        references = captions.get(comparable_id(image["id"]), ())
        yield Row(f"image {image['id']}", image["id"], image.get("file_name"), references, control=image.get("control"))
    for number, image_id in orphans:
        detail = f"its image_id {image_id!r} is the id of no image of the file"
        yield Row(f"annotation {number}", problem=BadRowError("annotation without image", str(source), detail))


def comparable_id(id: Any) -> str:
    """Return an id in the form in which two spellings of one number are equal."""
    text = str(int(id) if isinstance(id, float) and id.is_integer() else id).strip()
    number = _WHOLE_NUMBER.fullmatch(text)
    return number[1] if number else text
