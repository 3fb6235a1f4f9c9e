"""Lineage: each row that a step of `rlcap curate` writes says where it comes from.

    "lineage": [{"step": "best", "source": "photos.jsonl", "row": "17", "score": 1.4, "samples": 8}, {"step": "filter", …}]

A step appends its entry to those of the row that it read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlcap.curate.rows import to_row
from rlcap.io.atomic import replaced_file
from rlcap.io.json_values import nan_to_null
from rlcap.types import Sample


def lineage_of(
    sample: Sample, step: str, source: str, score: float | None = None, **parameters: Any
) -> list[dict[str, Any]]:
    """Return the lineage of a row that a step makes of a sample.

    Args:
        sample: The row that the step read.
        step: Name of the step.
        source: The data set that it was read from.
        score: The score that the step acted on; NaN where no reward could judge the row, None where the step has no score.
        **parameters: What else determined the row.
    """
    before = sample.meta.get("lineage")
    entry: dict[str, Any] = {"step": step, "source": source, "row": sample.id}
    if score is not None:
        entry["score"] = nan_to_null(score)
    return [*(before if isinstance(before, list) else []), entry | parameters]


def row_with_lineage(
    sample: Sample, out: Path, lineage: list[dict[str, Any]], added: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the row of a sample for a file, with its lineage and further entries."""
    return to_row(sample, out.parent, **(added or {}), lineage=lineage)


def write_rows(out: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON Lines, as a whole or not at all, and return how many there are. Rows are not held together.

    Raises:
        StorageError: The file can't be written.
    """
    count = 0
    with replaced_file(out, "the rows") as partial, open(partial, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            count += 1
    return count
