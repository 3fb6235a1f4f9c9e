"""Rows from CSV, TSV and parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.data.formats.images import store_image
from rlcap.data.formats.rows import BadRowError, Row, find_missing_columns, row_from_mapping
from rlcap.errors import DataError
from rlcap.io.text import parse_json, read_text

MAX_CELL = 10_000_000
"""Largest number of characters in a cell of a CSV file; Python's own limit is 131,072."""


def read_csv(source: Path, names: Mapping[str, str]) -> Iterator[Row]:
    """Yield the row of each line of a table whose first line names the columns.

    Cells are separated by tabs in a .tsv file and by commas in any other. A cell of references is one text, or a JSON list of texts. An
    empty cell counts as none. Rows of one image are joined later, so that a file with a line per caption is read as it is.

    Raises:
        DataError: The file is not UTF-8, is no table, or lacks a column.
    """
    text = read_text(source, "table", DataError)
    csv.field_size_limit(MAX_CELL)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter="\t" if source.suffix.lower() == ".tsv" else ",", strict=True
    )
    try:
        columns = list(reader.fieldnames or ())
        _check_columns(source, columns, names)
        for record in reader:
            where = f"line {reader.line_num}"
            if None in record:
                detail = (
                    f"the line has more cells than the {len(columns)} columns; quote cells that contain the separator"
                )
                yield Row(where, problem=BadRowError("not a table row", str(source), detail))
                continue
            filled: dict[str, Any] = {key: value for key, value in record.items() if value not in (None, "")}
            if isinstance(cell := filled.get(names["references"]), str) and cell.lstrip().startswith("["):
                filled[names["references"]] = _parse_list(cell)
            yield (
                row_from_mapping(where, filled, {**names}, source)
                if filled
                else Row(where, problem=BadRowError("no image", str(source), "the line is empty; remove it"))
            )
    except csv.Error as error:
        raise DataError(
            f"{source}, line {reader.line_num} is no row of a table ({error}); save the file again"
        ) from error


def read_parquet(source: Path, names: Mapping[str, str], cache: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file, whose image column holds paths or {bytes, path}.

    Raises:
        DataError: The file is not parquet, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(source)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{source} is not a parquet file ({error}); save it again") from error
    _check_columns(source, file.schema_arrow.names, names)
    number = 0
    for batch in file.iter_batches(batch_size=256):
        for record in batch.to_pylist():
            image = record.get(names["image"])
            if isinstance(image, Mapping):
                record = {**record, names["image"]: store_image(image, cache)}
            yield row_from_mapping(f"row {number}", record, names, source)
            number += 1


def _check_columns(source: Path, columns: list[str], names: Mapping[str, str]) -> None:
    """Raise DataError where a table lacks the image column, or one that the configuration names."""
    for name, column in find_missing_columns(columns, names).items():
        raise DataError(
            f"{source} has no column {column!r}, only {', '.join(map(str, columns)) or 'none'}; name the right column "
            f"with data.columns.{name}=NAME"
        )


def _parse_list(cell: str) -> Any:
    """Return the list that a cell holds as JSON, or the text itself where it is none."""
    try:
        value = parse_json(cell)
    except (ValueError, json.JSONDecodeError):
        return cell
    return value if isinstance(value, list) else cell
