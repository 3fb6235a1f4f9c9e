"""Reads the files `rollouts.jsonl`, `rollouts-1.jsonl`, … of a run folder: the captions that training sampled, one file a process.

A row is {"step", "sample_id", "caption", "advantage", "scores", …}. Its "spans" say what the rewards said of parts of the caption:
{term: [[start, end, value, label], …]}, and "image" is the path of its image. Both may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.errors import InputError
from rlcap.io.text import iter_log
from rlcap.types import Span

Row = Mapping[str, Any]
"""One sampled caption."""


def rollout_steps(run_dir: str | Path) -> set[int]:
    """Return the steps whose captions the run folder holds."""
    return {row["step"] for row in _iter_rows(Path(run_dir))}


def read_rollouts(run_dir: str | Path, step: int | None = None) -> list[Row]:
    """Return the captions of a step, those of all processes one after the other; without such a step there are none.

    Args:
        run_dir: The run folder.
        step: The step; None takes the last one.

    Raises:
        InputError: A file can't be read; the message names it.
    """
    rows: list[Row] = []
    wanted = step
    for row in _iter_rows(Path(run_dir)):  # the files of a long run are large: only the rows of one step are kept
        if step is None and (wanted is None or row["step"] > wanted):
            wanted, rows = row["step"], []
        if row["step"] == wanted:
            rows.append(row)
    return rows


def read_spans(row: Row) -> dict[str, list[Span]]:
    """Return term → what it said of parts of the caption, for the terms that said something.

    Raises:
        InputError: The row's spans have another form.
    """
    spans = row.get("spans") or {}
    try:
        return {name: [Span(*span) for span in parts] for name, parts in spans.items() if parts}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"the spans of {row['sample_id']} at step {row['step']} are not [start, end, value, label] ({error}); "
            "remove them from the run's rollouts.jsonl"
        ) from error


def _iter_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("rollouts*.jsonl"), key=lambda path: (len(path.name), path.name)):
        for row in iter_log(path):
            if not {"step", "sample_id", "caption", "advantage"} <= row.keys():
                raise InputError(f"{path}: {row!s:.80} is no sampled caption; remove the line")
            yield row
