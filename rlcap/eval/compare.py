"""Runs against runs: the same held-out images, the same rulers, and what differs between them beyond chance.

    found = compare([["runs/a-0", "runs/a-1"], ["runs/b-0", "runs/b-1"]])
    print(markdown(found))

A variant is one run, or one for each training seed. The first variant is what the others are held against, seed by seed and
image by image; intervals are 95 % bootstrap intervals over seeds and images (`rlcap.eval.statistics.difference_across_seeds`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.metric_catalog import MAIN_METRICS, canonical_name, metric_info, reading_order
from rlcap.eval.over_optimization import classify_change
from rlcap.eval.run_files import run_config
from rlcap.eval.statistics import Interval, difference_across_seeds, mean_across_seeds
from rlcap.types import InputError

RULERS = ("retriever", "retriever_pretrained", "nli")
"""Keys of `evaluation:` that two runs must share for their numbers to mean the same."""

_IN_SPLIT = re.compile(r"(bag|rd)\d+_|singles_out$")
"""Metrics of a caption that depend on which other images are in the split."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: of each variant its mean at the last evaluated step, and of each but the first its difference to the first."""

    metric: str
    start: Interval
    """The first variant at its first evaluated step, which is 0 in a run of the recipes."""
    values: tuple[Interval, ...]
    differences: tuple[Interval, ...]

    def verdicts(self) -> tuple[str, ...]:
        """Of each difference `better`, `worse`, `changed` (a metric without a direction) or `unclear`."""
        return tuple(classify_change(self.metric, difference._asdict()) for difference in self.differences)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found."""

    names: tuple[str, ...]
    steps: tuple[int, ...]
    """Of each variant the step that is compared, its runs' last."""
    split: str
    images: int
    seeds: int
    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    """Metrics whose bags differ, since the runs held out different images."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON: intervals as {mean, low, high}; a number that there is none of is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, Interval):
                return {key: None if math.isnan(number) else number for key, number in value._asdict().items()}
            return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value

        rows = [
            {"metric": row.metric, **{key: plain(getattr(row, key)) for key in ("start", "values", "differences")}}
            for row in self.rows
        ]
        return {**asdict(self), "rows": rows}


def compare(variants: Sequence[Sequence[str | Path]], split: str = "test", every: bool = False) -> Comparison:
    """Two or more variants over the images that all their runs captioned.

    every: all metrics, not only the main ones. Where runs held out different images, what depends on the others of a split (bags,
    random distractors) is left out. Raises InputError where runs can't be compared: no captions of the split, none after step 0,
    other rulers, no common image, another number of seeds, last steps that differ within a variant.
    """
    folders = [[Path(run) for run in runs] for runs in variants]
    if len(folders) < 2 or len({len(runs) for runs in folders}) != 1 or not folders[0]:
        counts = ", ".join(str(len(runs)) for runs in folders)
        raise InputError(
            f"two or more variants with one run a seed each, and equally many seeds: got {counts} runs; write runs/a runs/b, or "
            "runs/a-0,runs/a-1 runs/b-0,runs/b-1"
        )
    _same_rulers([run for runs in folders for run in runs])
    found = [[_tables(run, split) for run in runs] for runs in folders]
    steps_of = [{max(tables) for tables in runs} for runs in found]
    for runs, taken in zip(folders, steps_of, strict=True):
        if taken == {0} or len(taken) > 1:
            raise InputError(
                f"{', '.join(map(str, runs))}: {split} was captioned last at step {', '.join(map(str, sorted(taken)))}; a run "
                "must have ended (resume=auto goes on with it), and a variant's runs at the same step"
            )
    last = [[tables[max(tables)] for tables in runs] for runs in found]
    first = [tables[min(tables)] for tables in found[0]]
    tables = [table for runs in [*last, first] for table in runs]
    common = set.intersection(*(set(table.ids) for table in tables))
    ids = [id for id in tables[0].ids if id in common]
    if not ids:
        raise InputError(
            f"the runs have no image of {split!r} in common: same data.source, data.seed and data.{split}?"
        )
    metrics = set.intersection(*(set(table.metrics) for table in tables))
    whole = all(len(table.ids) == len(ids) for table in tables)
    other_bags = set() if whole else {name for name in metrics if _IN_SPLIT.match(name)}
    metrics -= other_bags
    if not every:
        metrics = {name for name in metrics if canonical_name(name) in MAIN_METRICS}

    rows = []
    for name in reading_order(metrics):
        columns = [[_values(table, name, ids) for table in runs] for runs in last]
        rows.append(
            Row(
                name,
                mean_across_seeds([_values(table, name, ids) for table in first]),
                tuple(mean_across_seeds(runs) for runs in columns),
                tuple(difference_across_seeds(columns[0], runs) for runs in columns[1:]),
            )
        )
    reached = tuple(max(taken) for taken in steps_of)
    left_out = tuple(reading_order(other_bags))
    return Comparison(_names(folders), reached, split, len(ids), len(folders[0]), tuple(rows), left_out)


def to_markdown(found: Comparison) -> str:
    """A table: a line a metric, with differences in bold where their interval excludes zero."""
    seeds = f", {found.seeds} seeds" if found.seeds > 1 else ""
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    head = [
        f"{found.split}: {found.images} images{seeds}",
        f"start of {found.names[0]}",
        *(f"{name}, step {step}" for name, step in zip(found.names, found.steps, strict=True)),
        *(f"{name} − {found.names[0]}" for name in found.names[1:]),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in found.rows:
        shown = metric_info(row.metric)
        cells = [shown.label + arrows[shown.better], shown.format(row.start.mean)]
        cells += [shown.format(value.mean) for value in row.values]
        for difference, word in zip(row.differences, row.verdicts(), strict=True):
            text = f"{shown.format_change(difference.mean)} [{shown.format_change(difference.low)}, {shown.format_change(difference.high)}]"
            cells.append(text if word == "unclear" else f"**{text}**" + ("" if word == "changed" else f" {word}"))
        lines.append("| " + " | ".join(cells) + " |")
    if found.left_out:
        lines.append(f"\nleft out, since the runs held out different images: {', '.join(found.left_out)}")
    return "\n".join(lines)


def _tables(run: Path, split: str) -> dict[int, Table]:
    """Evaluated step → its table."""
    evaluated = {step: tables[split] for step in evaluated_steps(run) if split in (tables := read_tables(run, step))}
    if not evaluated:
        raise InputError(f"{run} has no captions of {split!r}: is it a run folder, and did it hold such images out?")
    return evaluated


def _values(table: Table, metric: str, ids: Sequence[str]) -> np.ndarray:
    """(N,) values of a metric, in the order of `ids`."""
    place = {id: i for i, id in enumerate(table.ids)}
    return table.metrics[metric][[place[id] for id in ids]]


def _same_rulers(runs: Sequence[Path]) -> None:
    used = {}
    for run in runs:
        values = run_config(run)
        if values is not None:  # captions from elsewhere have none
            used[run] = tuple(values.get("evaluation", {}).get(key) for key in RULERS)
    for run, rulers in used.items():
        first = next(iter(used))
        for key, one, two in zip(RULERS, used[first], rulers, strict=True):
            if one != two:
                raise InputError(
                    f"evaluation.{key} is {one!r} in {first} and {two!r} in {run}: measured by other rulers, the numbers can't be "
                    "compared"
                )


def _names(folders: Sequence[Sequence[Path]]) -> tuple[str, ...]:
    """Of each variant its folder's name, without the seed that its runs' names end with where it has several; whole paths
    where names are not distinct."""
    names = [runs[0].name if len(runs) == 1 else runs[0].name.rstrip("0123456789").rstrip("-_") for runs in folders]
    if len(set(names)) < len(names):
        names = [str(runs[0]) for runs in folders]
    return tuple(names)
