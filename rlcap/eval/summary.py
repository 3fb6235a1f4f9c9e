"""The file `summary.json` of a run: the means of every evaluation with intervals, and the changes since the start.

    {"schema": 2, "seconds": float, "steps": int,
     "evaluations": [{"step": 0, "split": "test", "n": 308, "clusters": 44, "metrics": {NAME: INTERVAL}}, …],
     "changes": [{"split": "test", "from": 0, "to": 120, "n": 308, "clusters": 44,
                  "metrics": {NAME: {"n": 308, "before": …, "after": …,
                                     "difference": INTERVAL, "relative": INTERVAL or null}}}, …],
     "alarms": [{"split": "test", "from": 0, "to": 120, "rose": [TERM, …], "worse": [NAME, …]}, …]}

An INTERVAL is {"mean", "low", "high", "df", "clusters"}: a 95 % interval over clusters of similar images
(`rlcap.eval.statistics`), whose ends are null with a single cluster. Those of changes are paired, over the images that
both steps have. They say nothing about other training seeds: `rlcap compare` does, from several runs. The `clusters` of
an evaluation are null where its captions file names none; then each image counts as independent.
`summarise(run_dir)` computes the summary from `captions/*.jsonl`; the alarms also need `metrics.jsonl`. A metric that
applies to no image is left out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.over_optimization import find_alarms
from rlcap.eval.statistics import Interval, mean_interval, paired_difference, relative_change
from rlcap.io.atomic import write_json
from rlcap.io.text import read_json, read_log

SCHEMA = 2


def summarise(run_dir: str | os.PathLike, seconds: float | None = None, n_steps: int | None = None) -> dict[str, Any]:
    """Write `summary.json` and return its contents.

    Args:
        run_dir: The run folder.
        seconds: The duration of the run from start to summary, summed over all resumed parts. The default is the longer
            of the durations in an earlier summary and in the last line of `metrics.jsonl`, or 0 without either.
        n_steps: The number of training steps; by default the last step in `metrics.jsonl` or `captions/`.

    Raises:
        FileNotFoundError: The folder has no captions.
    """
    run_dir = Path(run_dir)
    evaluated = evaluated_steps(run_dir)
    if not evaluated:
        raise FileNotFoundError(f"{run_dir / 'captions'} has no <step>.jsonl; evaluate the run first")
    tables = {step: read_tables(run_dir, step) for step in evaluated}
    rows = read_metric_rows(run_dir)
    last, changes = rows[-1] if rows else {}, compute_changes(tables)
    summary = {
        "schema": SCHEMA,
        "seconds": _seconds(run_dir, last) if seconds is None else seconds,
        "steps": max(evaluated[-1], last.get("step", 0)) if n_steps is None else n_steps,
        "evaluations": [
            {"step": step, "split": split, "n": len(table.ids)}
            | {"clusters": count_clusters(table), "metrics": _means(table)}
            for step, splits in tables.items()
            for split, table in splits.items()
        ],
        "changes": changes,
        "alarms": find_alarms(changes, rows),
    }
    write_json(run_dir / "summary.json", summary, "the summary", indent=1)
    return summary


def read_summary(run_dir: str | os.PathLike) -> dict[str, Any]:
    """Return the summary of a run. The unknown ends of an interval over a single cluster are NaN.

    Raises:
        FileNotFoundError: The run has no summary; the message says how to make one.
        ValueError: The summary has another schema.
    """
    path = Path(run_dir) / "summary.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; rlcap.eval.summary.summarise(run_dir) makes it from captions/")
    summary = read_json(path, "the summary")
    if summary.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {summary.get('schema')!r}, this version reads {SCHEMA}; rlcap report {run_dir} writes it again"
        )
    for part in (*summary["evaluations"], *summary["changes"]):
        for values in part["metrics"].values():
            for interval in (values, values.get("difference"), values.get("relative")):
                interval = interval or {}
                interval.update({end: math.nan for end in ("low", "high") if interval.get(end, 0) is None})
    return summary


def count_clusters(table: Table) -> int | None:
    """Return the number of clusters of a table's images; None where the captions file names none."""
    return None if table.clusters is None else len(set(table.clusters))


def clusters_of(table: Table, ids: Sequence[str]) -> list[str]:
    """Return the cluster of each image in `ids`: its own id where the captions file names no clusters."""
    cluster_of_id = dict(zip(table.ids, table.clusters or table.ids, strict=True))
    return [cluster_of_id[id] for id in ids]


def pair_values(before: Table, after: Table, metric: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return (before, after, ids), (n,) each, of the n images for which both tables have a value of the metric."""
    first = dict(zip(before.ids, before.metrics.get(metric, ()), strict=False))
    second = dict(zip(after.ids, after.metrics.get(metric, ()), strict=False))
    ids = [id for id in first if id in second and not math.isnan(first[id]) and not math.isnan(second[id])]
    return np.array([first[id] for id in ids]), np.array([second[id] for id in ids]), ids


def _means(table: Table) -> dict[str, dict[str, float | None]]:
    intervals = {name: mean_interval(values, table.clusters) for name, values in table.metrics.items()}
    return {name: _to_json(interval) for name, interval in intervals.items() if not math.isnan(interval.mean)}


def compute_changes(tables: dict[int, dict[str, Table]]) -> list[dict[str, Any]]:
    """Return, for each split that was evaluated at two or more steps, the changes from its first to its last step.

    Args:
        tables: Evaluated step → split → table.
    """
    changes = []
    for split in dict.fromkeys(split for splits in tables.values() for split in splits):
        steps = [step for step, splits in tables.items() if split in splits]
        if len(steps) > 1:
            start, end = tables[steps[0]][split], tables[steps[-1]][split]
            end_ids = set(end.ids)
            common = [id for id in start.ids if id in end_ids]
            named = end if start.clusters is None else start
            changes.append(
                {
                    "split": split,
                    "from": steps[0],
                    "to": steps[-1],
                    "n": len(common),
                    "clusters": None if named.clusters is None else len(set(clusters_of(named, common))),
                    "metrics": _metric_changes(start, end),
                }
            )
    return changes


def _metric_changes(start: Table, end: Table) -> dict[str, dict[str, Any]]:
    changes = {}
    for name in start.metrics:
        before, after, ids = pair_values(start, end, name)
        if ids:
            clusters = clusters_of(end if start.clusters is None else start, ids)
            relative = relative_change(before, after, clusters)
            changes[name] = {
                "n": len(ids),
                "before": float(before.mean()),
                "after": float(after.mean()),
                "difference": _to_json(paired_difference(before, after, clusters)),
                "relative": None if math.isnan(relative.mean) else _to_json(relative),
            }
    return changes


def _to_json(interval: Interval) -> dict[str, float | None]:
    return interval._asdict()


def read_metric_rows(run_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl in order of step; where a resumed run repeated a step, only its last row."""
    row_of_step = {row["step"]: row for row in read_log(Path(run_dir) / "metrics.jsonl")}
    return [row_of_step[step] for step in sorted(row_of_step)]


def _seconds(run_dir: Path, last: dict[str, Any]) -> float:
    path = run_dir / "summary.json"
    earlier = read_json(path, "the summary").get("seconds") if path.exists() else None
    return float(max(earlier or 0.0, last.get("seconds") or 0.0))
