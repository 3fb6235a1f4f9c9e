"""Rows from JSON Lines (one object per line) and from a JSON list of objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.data.formats.rows import BadRowError, Row, row_from_mapping
from rlcap.io.text import LineError, iter_json_lines


def read_json_lines(source: Path, names: Mapping[str, str]) -> Iterator[Row]:
    """Yield the row of each line that is not blank."""
    for number, record in iter_json_lines(source):
        where = f"line {number}"
        if isinstance(record, LineError):
            detail = (
                f"the line is not UTF-8 ({record})"
                if record.reason == "not UTF-8"
                else f"the line is not a JSON object ({record}); fix or remove it"
            )
            yield Row(where, problem=BadRowError(record.reason, str(source), detail))
        else:
            yield _row(where, record, names, source)


def read_json_list(source: Path, records: list[Any], names: Mapping[str, str]) -> Iterator[Row]:
    """Yield the row of each entry of a list that a JSON file holds."""
    for number, record in enumerate(records, 1):
        yield _row(f"entry {number}", record, names, source)


def _row(where: str, record: Any, names: Mapping[str, str], source: Path) -> Row:
    if isinstance(record, dict):
        return row_from_mapping(where, record, names, source)
    unit = where.split()[0]
    detail = f"the {unit} is not a JSON object (a {type(record).__name__} instead of an object); fix or remove it"
    return Row(where, problem=BadRowError("not JSON", str(source), detail))
