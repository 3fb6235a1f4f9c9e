"""The files `captions/<step>.jsonl` of a run folder: the captions of an evaluated step with their metrics.

A row is {"sample_id", "image", "caption", "split", "cluster", "metrics": {name: value}}. A metric that does not apply is
null. Images of one `cluster` are similar, and statistics count them as one observation; files of rlcap 0.1 name none.
A row whose caption was asked for something has its "control". Where the truth is known, a row also has "false": [[start, end, what is false], …], the character positions of its false
sentences. The summary, the report and comparisons can be computed from these files alone.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlcap.errors import InputError
from rlcap.io.atomic import write_text
from rlcap.io.text import iter_json_lines

Row = dict[str, Any]
"""One row of a captions file."""


class Table(NamedTuple):
    """The N rows of one split at one step, as columns."""

    ids: list[str]
    images: list[str]
    captions: list[str]
    metrics: dict[str, np.ndarray]
    """Name → (N,) values, NaN where the metric does not apply."""
    false: list[list[tuple[int, int, str]]]
    """Per caption (start, end, what is false) of each false sentence; [] if there is none or the truth is unknown."""
    clusters: list[str] | None
    """The cluster of each image; None where a row names none."""


def captions_path(run_dir: str | os.PathLike, step: int) -> Path:
    """Return the path of the captions file of a step."""
    return Path(run_dir) / "captions" / f"{step}.jsonl"


def write_rows(run_dir: str | os.PathLike, step: int, rows: Iterable[Row]) -> Path:
    """Add rows to the file of a step and return its path.

    A new row replaces an old row of the same split and sample. So the file keeps one row per caption when a step is
    evaluated again, after a crash or for another split. The file is replaced atomically.
    """
    path = captions_path(run_dir, step)
    merged = {(row["split"], row["sample_id"]): row for row in (read_rows(path) if path.exists() else [])}
    merged.update({(row["split"], row["sample_id"]): row for row in rows})
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in merged.values()]
    write_text(path, "".join(lines), "the captions")
    return path


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a captions file.

    Raises:
        InputError: A line is not a row; the message names the file and the line.
    """
    rows = []
    for number, row in iter_json_lines(path):
        if not isinstance(row, dict) or not {"split", "sample_id", "image", "caption"} <= row.keys():
            raise InputError(f"{path}, line {number} is not a captions row ({row!s:.80}); evaluate the step again")
        rows.append(row)
    return rows


def evaluated_steps(run_dir: str | os.PathLike) -> list[int]:
    """Return the evaluated steps of a run in ascending order."""
    folder = Path(run_dir) / "captions"
    return sorted(int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdigit())


def read_tables(run_dir: str | os.PathLike, step: int) -> dict[str, Table]:
    """Return split → table of an evaluated step, in the order of the file."""
    tables: dict[str, list[Row]] = {}
    for row in read_rows(captions_path(run_dir, step)):
        tables.setdefault(row["split"], []).append(row)
    return {split: _table(rows) for split, rows in tables.items()}


def metric_values(metrics: Mapping[str, np.ndarray], row: int) -> dict[str, float | None]:
    """Return the metrics of the caption at index `row` for JSON: six significant digits, None in place of NaN."""
    values = {name: float(array[row]) for name, array in metrics.items()}
    return {name: float(f"{value:.6g}") if math.isfinite(value) else None for name, value in values.items()}


def _table(rows: list[Row]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row.get("metrics", {}))
    metrics = {
        name: np.array([np.nan if (v := row.get("metrics", {}).get(name)) is None else v for row in rows], np.float64)
        for name in names
    }
    ids, images, captions = ([row[key] for row in rows] for key in ("sample_id", "image", "caption"))
    false = [[tuple(span) for span in row.get("false", ())] for row in rows]
    clusters = [row["cluster"] for row in rows] if all("cluster" in row for row in rows) else None
    return Table(ids, images, captions, metrics, false, clusters)
