"""Reads captions from a file, and joins them with the samples that they describe.

A captions file holds a JSON object per line: `sample_id` and `caption`, and, unless the configured data knows the image, `image`,
`references`, `paragraph`, `meta`, `control` and `distractor_images` (paths of similar images), as far as the rewards need them. Relative image
paths start from the file's folder. A run's captions/<step>.jsonl and rollouts.jsonl are such files. COCO's results (.json) and tables (.csv, .tsv)
with these columns are read too.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.data.formats.coco import comparable_id
from rlcap.errors import CaptionsError
from rlcap.io.text import read_json, read_rows, read_text
from rlcap.types import Control, RewardBatch, Sample

BAG = 5
"""Images of the bag that a caption is scored in where its row names none."""


def read_captions(path: Path, image_root: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a captions file, with image paths that can be opened from the working directory.

    Args:
        path: the file.
        image_root: folder that relative image paths start from; None takes the file's own folder. A path that is not there, but is below
            the working directory, is taken from there: `rlcap caption --out` writes such paths.

    Raises:
        CaptionsError: the file is not there or empty, or a line is no row.
    """
    if path.suffix.lower() == ".json":
        rows = _read_coco_results(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        rows = _read_table(path)
    else:
        form = "write a JSON object per line with sample_id and caption, or COCO's results as .json"
        rows = read_rows(path, "captions", form, _flaw, CaptionsError)
    root = path.parent if image_root is None else Path(image_root).expanduser()
    for row in rows:
        if row.get("image"):
            row["image"] = _find_image(row["image"], root)
        if row.get("distractor_images"):
            row["distractor_images"] = [_find_image(image, root) for image in row["distractor_images"]]
    return rows


def _read_coco_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file in COCO's results form, a JSON list of {image_id, caption}.

    Raises:
        CaptionsError: The file is missing, is no such list, or an entry has a problem.
    """
    entries = read_json(path, "captions file", CaptionsError)
    if not isinstance(entries, list) or not entries:
        raise CaptionsError(f"{path} is no list of {{image_id, caption}}, which COCO's results are")
    rows = []
    for number, entry in enumerate(entries, 1):
        row = dict(entry) if isinstance(entry, dict) else entry
        if isinstance(row, dict) and "sample_id" not in row and row.get("image_id") is not None:
            row["sample_id"] = str(row.pop("image_id"))
        if problem := _flaw(row):
            raise CaptionsError(f"{path}, entry {number}: {problem}")
        rows.append(row)
    return rows


def _read_table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table with the columns sample_id and caption, and image where there is one; other columns are left out.

    Raises:
        CaptionsError: The file is missing or not UTF-8, is no table, or lacks a column.
    """
    text = read_text(path, "captions file", CaptionsError)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        columns = list(reader.fieldnames or ())
        if not {"sample_id", "caption"} <= set(columns):
            raise CaptionsError(
                f"{path} needs the columns sample_id and caption; its first line names {', '.join(columns) or 'none'}"
            )
        kept = [key for key in ("sample_id", "caption", "image", "split") if key in columns]
        rows: list[dict[str, Any]] = [
            {key: record[key] for key in kept if record[key] is not None} for record in reader
        ]
    except csv.Error as error:
        raise CaptionsError(
            f"{path}, line {reader.line_num} is no row of a table ({error}); save the file again"
        ) from error
    for number, row in enumerate(rows, 1):
        if problem := _flaw(row):
            raise CaptionsError(f"{path}, row {number}: {problem}")
    if not rows:
        raise CaptionsError(f"{path} has no captions below its first line")
    return rows


def _find_image(image: str, root: Path) -> str:
    """Return an image's path below the root; as it stands where it is absolute, or where only the working directory has it."""
    below = root / Path(image).expanduser()  # an absolute path stays as it is
    return image if not below.exists() and Path(image).exists() else str(below)


def _flaw(row: Any) -> str | None:
    """Return the problem of a row, or None. Other keys are allowed, as in the files of a run, unless they resemble a known key."""
    if not isinstance(row, dict) or not isinstance(row.get("caption"), str) or "sample_id" not in row:
        return f"a row needs sample_id and caption, got {json.dumps(row)[:80]!r}"
    for key, (kind, fits) in KEYS.items():
        if row.get(key) is not None and not fits(row[key]):
            return f"{key} must be {kind}, got {json.dumps(row[key])[:80]}"
    for key in row.keys() - KEYS.keys():
        near = difflib.get_close_matches(key, KEYS.keys() - row.keys(), 1, cutoff=0.85)
        if near:
            return f"a row has no key {key!r}; did you mean {near[0]!r}?"
    return None


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_control(value: Any) -> bool:
    try:
        Control.parse(value)
    except ValueError:
        return False
    return isinstance(value, dict)


KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "image": ("a path", lambda value: isinstance(value, str)),
    "references": ("a text or a list of texts", lambda value: isinstance(value, str) or _is_list_of_texts(value)),
    "paragraph": ("a text", lambda value: isinstance(value, str)),
    "meta": ("a mapping", lambda value: isinstance(value, dict)),
    "control": ("a mapping of controls, such as {length: 40}", _is_control),
    "distractor_images": ("a list of paths", _is_list_of_texts),
}
"""What a row may say of its image: key → what it must be."""


def name_as_in(rows: Sequence[Mapping[str, Any]], ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows with the ids of the data, where a row's id is the same number in another spelling.

    COCO's results name an image 139 that the data may call "000000000139". Ids of the data that are one number are left alone.

    Args:
        rows: Rows with `sample_id`.
        ids: The ids of the data.
    """
    known = set(ids)
    of_number: defaultdict[str, list[str]] = defaultdict(list)
    for id in sorted(known):
        of_number[comparable_id(id)].append(id)
    named = []
    for row in rows:
        same = of_number.get(comparable_id(row["sample_id"]), [])
        is_other = str(row["sample_id"]) not in known and len(same) == 1
        named.append({**row, "sample_id": same[0]} if is_other else dict(row))
    return named


def references_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's own references; one text is one reference."""
    found = row.get("references") or ()
    return (found,) if isinstance(found, str) else tuple(found)


def to_batch(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sample]) -> RewardBatch:
    """Return the rows as a batch. The fields of a row take precedence over those of its sample in `known` (by id)."""
    samples, bags = [], []
    for row in rows:
        id = str(row["sample_id"])
        base = known.get(id, Sample(id, ""))
        samples.append(
            Sample(
                id,
                row.get("image") or base.image,
                references_of(row) or base.references,
                row.get("paragraph") or base.paragraph,
                base.distractors,
                row.get("meta") or base.meta,
                control=Control.parse(row.get("control")).over(base.control),
            )
        )
        near = [known[other].image for other in base.distractors.get("hard", ()) if other in known][: BAG - 1]
        bags.append(tuple(row.get("distractor_images") or near))
    return RewardBatch([row["caption"] for row in rows], samples, bags)
