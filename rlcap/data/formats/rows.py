"""What every reader of a format yields: unchecked rows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIKELY_REFERENCES = ("caption", "captions", "text", "texts", "sentences", "sentence", "description", "alt_text", "raw")
"""Names under which other tools keep what is called `references` here."""
LIKELY_IMAGE = ("file_name", "filename", "image_path", "img", "img_path", "path", "filepath", "file_path", "image_file")
"""Names under which other tools keep what is called `image` here."""


class BadRowError(Exception):
    """A row can't be used.

    Attributes:
        reason: A short stable reason, by which skipped rows are counted.
        file: The faulty file.
    """

    def __init__(self, reason: str, file: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.file = reason, file


@dataclass(slots=True)
class Row:
    """An unchecked row of a source."""

    where: str
    """The position of the row in the source, for messages."""
    id: Any = None
    image: Any = None
    references: Any = ()
    paragraph: Any = None
    control: Any = None
    """A mapping, or its JSON text."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: BadRowError | None = None
    """The error that prevented reading the row, if any."""


def row_from_mapping(where: str, record: Mapping[str, Any], names: Mapping[str, str], source: Path) -> Row:
    """Return the row of a mapping; other keys than the columns go to `meta`, but a misspelt column is a problem.

    Args:
        where: The position of the row in the source.
        record: Key → value.
        names: Our name of each column → its name in the record.
        source: The source, for messages.
    """
    control, rest = _take_control(record, names["control"])
    if control is not None and record.get(names["control"]) not in (None, control):
        detail = (
            f"the row has {names['control']!r} and columns {names['control']}.NAME beside it; keep one of the two forms"
        )
        return Row(where, problem=BadRowError("two controls", str(source), detail))
    record = rest
    meta = {key: value for key, value in record.items() if key not in names.values()}
    missing = [name for name in names.values() if name not in record and not (name == names["control"] and control)]
    for key in meta:
        # Where the record has a column, a similar key is no misspelling of it: image_id beside image.
        similar = difflib.get_close_matches(str(key).lower(), missing, 1, cutoff=0.8)
        if similar:
            detail = f"unknown key {key!r}, did you mean {similar[0]!r}? Rename it, or map it with data.columns"
            return Row(where, problem=BadRowError("misspelt key", str(source), detail))
    texts = record.get(names["references"]), record.get(names["paragraph"])
    return Row(where, record.get(names["id"]), record.get(names["image"]), *texts, control, meta)


def _take_control(record: Mapping[str, Any], column: str) -> tuple[Any, Mapping[str, Any]]:
    """Return a record's control, and the record without it.

    A record has one column with a mapping or its JSON text, or a column for each demand (`control.length`, `control.level`, …).
    """
    prefix = f"{column}."
    single = {key.removeprefix(prefix): value for key, value in record.items() if str(key).startswith(prefix)}
    rest = {key: value for key, value in record.items() if key != column and not str(key).startswith(prefix)}
    return single or record.get(column), rest


def find_missing_columns(columns: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return our name → name in the source of the columns that a table lacks: the image, and those that the configuration renames.

    A control may lie in several columns, such as `control.length`.
    """
    required = {name: column for name, column in names.items() if name == "image" or column != name}
    return {
        name: column
        for name, column in required.items()
        if column not in columns
        and not (name == "control" and any(str(own).startswith(f"{column}.") for own in columns))
    }


def suggest_column(meta: Mapping[str, Any], column: str, likely: tuple[str, ...]) -> str | None:
    """Return the setting that reads a column under the likely name that a row has, or None where it has none."""
    found = next((key for key in meta if str(key).lower() in likely), None)
    return None if found is None else f"data.columns.{column}={found}"
