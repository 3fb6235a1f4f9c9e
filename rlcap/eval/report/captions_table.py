"""The report's table of captions: each image before and after, which the page's script sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlcap.data.panel import hashed
from rlcap.eval.captions_file import Table
from rlcap.eval.metric_catalog import metric_info

MAX_ROWS = 500
"""Rows of the table, at most: each has a picture, and all of them are in one file."""


def captions_table(
    tables: dict[int, dict[str, Table]], splits: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any] | None:
    """Return the rows and columns of the table, or None where the run has no captions.

    Args:
        tables: Evaluated step → split → captions and metrics.
        splits: The splits in the order in which they are shown. Each is shown at its first and its last step.
        metrics: The metrics that get a column, where a split has them.
    """
    rows = [row for split in splits for row in _rows(tables, split, metrics)]
    if not rows:
        return None
    total = len(rows)
    if total > MAX_ROWS:
        kept = set(sorted(range(total), key=lambda i: hashed(f"{rows[i]['split']}/{rows[i]['id']}"))[:MAX_ROWS])
        rows = [row for i, row in enumerate(rows) if i in kept]
    return {
        "rows": rows,
        "total": total,
        "splits": list(dict.fromkeys(row["split"] for row in rows)),
        "metrics": [metric_info(name).label for name in metrics],
        "has_before": any(row["before"] is not None for row in rows),
    }


def _rows(tables: dict[int, dict[str, Table]], split: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each image of the last step; `before` and `after` are indices into the tables `first` and `last`."""
    steps = [step for step in tables if split in tables[step]]
    if not steps:
        return []
    first, last = (tables[steps[0]][split] if len(steps) > 1 else None), tables[steps[-1]][split]
    row_of_id = {id: i for i, id in enumerate(first.ids)} if first else {}
    rows = []
    for j, id in enumerate(last.ids):
        i = row_of_id.get(id)
        changes = [_change(first, last, name, i, j) for name in metrics]
        rows.append(
            {
                "split": split,
                "id": id,
                "image": last.images[j],
                "before": None if first is None or i is None else (first.captions[i], first.false[i]),
                "after": (last.captions[j], last.false[j]),
                "changes": changes,
                "total": sum(change["gain"] for change in changes),
            }
        )
    return rows


def _change(first: Table | None, last: Table, name: str, i: int | None, j: int) -> dict[str, Any]:
    """Return a metric of an image as text, the number by which the column is sorted, and the gain: positive where it got better."""
    info = metric_info(name)
    after = float(last.metrics[name][j]) if name in last.metrics else math.nan
    before = (
        float(first.metrics[name][i]) if first is not None and i is not None and name in first.metrics else math.nan
    )
    if not math.isfinite(after):
        return {"text": "–", "sort": None, "gain": 0.0, "verdict": ""}
    if not math.isfinite(before):
        return {"text": info.format(after), "sort": after, "gain": 0.0, "verdict": ""}
    gain = info.better * (after - before)
    text = f"{info.format(before)} → {info.format(after)}"
    return {
        "text": text,
        "sort": after - before,
        "gain": gain,
        "verdict": "better" if gain > 0 else "worse" if gain < 0 else "",
    }
