"""Compares runs on the same held-out images by the same metrics, and shows which differences exceed chance.

    comparison = compare([["runs/a-0", "runs/a-1"], ["runs/b-0", "runs/b-1"]])
    print(to_markdown(comparison))

A variant is one run, or several runs with one training seed each. The first variant is the baseline: the others are
compared with it seed by seed and image by image. Intervals are 95 % intervals over seeds and clusters of similar images
(`rlcap.eval.statistics.difference_across_seeds`). With one seed per variant they say nothing about other seeds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.errors import InputError
from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.goals import Goal, describe_choice, describe_goal, find_goals
from rlcap.eval.metric_catalog import MAIN_METRICS, canonical_name, metric_info, reading_order
from rlcap.eval.over_optimization import classify_change
from rlcap.eval.run_files import run_config
from rlcap.eval.significance import detectable_difference, holm, permutation_p_value
from rlcap.eval.statistics import Interval, describe_units, difference_across_seeds, mean_across_seeds
from rlcap.eval.summary import clusters_of
from rlcap.io.json_values import nan_to_null

EVALUATION_SETTINGS = {"retriever": None, "retriever_pretrained": None, "nli": None, "tokenizer": "words"}
"""Key of `evaluation:` in a configuration → its value where it is missing. Runs are comparable only if they agree."""

_IN_SPLIT = re.compile(r"(bag|rd)\d+_|singles_out$")
"""Names of metrics that depend on which other images are in the split."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of all variants."""

    metric: str
    start: Interval
    """The mean of the first variant at its first evaluated step, which is 0 in a run of the recipes."""
    values: tuple[Interval, ...]
    """The mean of each variant at its last evaluated step."""
    differences: tuple[Interval, ...]
    """The difference of each variant but the first to the first variant."""
    p_values: tuple[float, ...] = ()
    """The p-value of each difference by a permutation test, corrected for all differences of the comparison."""

    def verdicts(self) -> tuple[str, ...]:
        """Return `better`, `worse`, `changed` (a metric without a direction) or `unclear` for each difference."""
        return tuple(classify_change(self.metric, difference._asdict()) for difference in self.differences)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare`."""

    names: tuple[str, ...]
    """The name of each variant."""
    steps: tuple[int, ...]
    """The compared step of each variant: the last evaluated step of its runs."""
    split: str
    """The name of the split."""
    images: int
    """The number of images that all runs have in common."""
    seeds: int
    """The number of training seeds per variant."""
    rows: tuple[Row, ...]
    """The compared metrics, in reading order."""
    left_out: tuple[str, ...] = ()
    """Metrics that can't be compared because the runs held out different images, so that their bags differ."""
    clusters: int | None = None
    """The number of clusters of the images; None where no captions file names them, so that each image counts as one."""
    goals: tuple[Goal, ...] = ()
    """Who is best at each goal."""

    def choice(self) -> list[str]:
        """Return in sentences which variant to choose: the verdict, then one sentence for each goal."""
        told = describe_choice(self.goals, self.names)
        return [told, *(describe_goal(goal, self.names) for goal in self.goals)] if told else []

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON: an interval as {mean, low, high, df, clusters}, with None in place of NaN."""
        rows = [
            {
                "metric": row.metric,
                **{key: getattr(row, key) for key in ("start", "values", "differences", "p_values")},
                "detectable": [detectable_difference(difference) for difference in row.differences],
            }
            for row in self.rows
        ]
        goals = [
            {
                "goal": goal.name,
                "metric": goal.metric,
                "best": self.names[goal.best],
                "clearly_better_than": [self.names[i] for i in goal.clear],
            }
            for goal in self.goals
        ]
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return dict(nan_to_null({**own, "rows": rows, "goals": goals}))


def compare(variants: Sequence[Sequence[str | Path]], split: str = "test", every: bool = False) -> Comparison:
    """Compare two or more variants over the images that all their runs captioned.

    Where the runs held out different images, the comparison leaves out the metrics that depend on the other images of a
    split (bags, random distractors).

    Args:
        variants: Run folders of each variant, one per training seed and in the same order of seeds.
        split: The name of the split.
        every: Whether to compare all metrics instead of the main ones (`MAIN_METRICS`).

    Raises:
        InputError: The runs can't be compared: a run has no captions of the split or none after step 0, the evaluation
            models differ, the runs have no image in common, the variants have different numbers of seeds, or the last
            steps differ within a variant.
    """
    folders = [[Path(run) for run in runs] for runs in variants]
    if len(folders) < 2 or len({len(runs) for runs in folders}) != 1 or not folders[0]:
        counts = ", ".join(str(len(runs)) for runs in folders)
        raise InputError(
            "the comparison needs two or more variants with equally many runs, one per training seed; "
            f"got {counts} runs; write runs/a runs/b, or runs/a-0,runs/a-1 runs/b-0,runs/b-1"
        )
    _check_evaluation_settings([run for runs in folders for run in runs])
    evaluations = [[_read_evaluations(run, split) for run in runs] for runs in folders]
    last_steps = [{max(tables) for tables in runs} for runs in evaluations]
    for runs, steps in zip(folders, last_steps, strict=True):
        if steps == {0} or len(steps) > 1:
            raise InputError(
                f"{', '.join(map(str, runs))}: {split} was captioned last at step "
                f"{', '.join(map(str, sorted(steps)))}; a run must have ended, and all runs of a "
                "variant at the same step; resume=auto continues a run"
            )
    last = [[tables[max(tables)] for tables in runs] for runs in evaluations]
    first = [tables[min(tables)] for tables in evaluations[0]]
    tables = [table for runs in [*last, first] for table in runs]
    common = set.intersection(*(set(table.ids) for table in tables))
    ids = [id for id in tables[0].ids if id in common]
    if not ids:
        raise InputError(
            f"the runs have no image of {split!r} in common; check that data.source, data.seed and data.{split} are "
            "equal"
        )
    named = next((table for table in tables if table.clusters is not None), tables[0])
    clusters = clusters_of(named, ids)
    metrics = set.intersection(*(set(table.metrics) for table in tables))
    same_images = all(len(table.ids) == len(ids) for table in tables)
    incomparable = set() if same_images else {name for name in metrics if _IN_SPLIT.match(name)}
    metrics -= incomparable
    if not every:
        metrics = {name for name in metrics if canonical_name(name) in MAIN_METRICS}

    measured = {name: [[_values(table, name, ids) for table in runs] for runs in last] for name in metrics}
    rows = []
    for name in reading_order(metrics):
        columns = measured[name]
        rows.append(
            Row(
                name,
                mean_across_seeds([_values(table, name, ids) for table in first], clusters),
                tuple(mean_across_seeds(runs, clusters) for runs in columns),
                tuple(difference_across_seeds(columns[0], runs, clusters) for runs in columns[1:]),
                tuple(permutation_p_value(np.subtract(runs, columns[0]).mean(0), clusters) for runs in columns[1:]),
            )
        )
    corrected = iter(holm([p for row in rows for p in row.p_values]))
    rows = [replace(row, p_values=tuple(next(corrected) for _ in row.p_values)) for row in rows]
    reached = tuple(max(steps) for steps in last_steps)
    left_out = tuple(reading_order(incomparable))
    return Comparison(
        _variant_names(folders),
        reached,
        split,
        len(ids),
        len(folders[0]),
        tuple(rows),
        left_out,
        None if named.clusters is None else len(set(clusters)),
        find_goals(measured, clusters),
    )


def to_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown: the choice in sentences, and a table with one line per metric.

    A difference is bold where its interval excludes zero.
    """
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    head = [
        comparison.split,
        f"start of {comparison.names[0]}",
        *(f"{name}, step {step}" for name, step in zip(comparison.names, comparison.steps, strict=True)),
        *(f"{name} − {comparison.names[0]}" for name in comparison.names[1:]),
    ]
    told = comparison.choice()
    lines = [*told[:1], "", *(f"- {sentence}" for sentence in told[1:]), ""] if told else []
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in comparison.rows:
        info = metric_info(row.metric)
        cells = [info.label + arrows[info.better], info.format(row.start.mean)]
        cells += [info.format(value.mean) for value in row.values]
        for difference, verdict, p in zip(row.differences, row.verdicts(), row.p_values, strict=True):
            mean, low, high = map(info.format_change, difference[:3])
            text = f"{mean} [{low}, {high}]"
            text = text if verdict == "unclear" else f"**{text}**" + ("" if verdict == "changed" else f" {verdict}")
            cells.append(text if math.isnan(p) else f"{text}, {describe_p_value(p)}")
        lines.append("| " + " | ".join(cells) + " |")
    units = describe_units(comparison.images, comparison.clusters, comparison.seeds)
    one_seed = "" if comparison.seeds > 1 else ". With one seed per variant they say nothing about other seeds"
    lines.append(f"\n95 % intervals {units}; bold where they exclude zero{one_seed}")
    lines.append(
        "\np: changes of sign by cluster, of the means over seeds, corrected by Holm's method for all differences in the table"
    )
    if found := describe_detectable(comparison):
        lines.append(f"\nwith probability .8 this design finds a true difference of {found}")
    if comparison.left_out:
        lines.append(f"\nleft out, since the runs held out different images: {', '.join(comparison.left_out)}")
    return "\n".join(lines)


def describe_p_value(p: float) -> str:
    """Return a p-value as text: "p = 0.03", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def describe_detectable(comparison: Comparison) -> str:
    """Return the detectable differences of the goals' metrics, the largest over variants; "" where none is known."""
    headlines = {goal.metric for goal in comparison.goals}
    found = []
    for row in comparison.rows:
        sizes = [size for difference in row.differences if (size := detectable_difference(difference)) > 0]
        if row.metric in headlines and sizes:
            info = metric_info(row.metric)
            unit = " points" if info.unit == "share" else ""
            found.append(f"{info.format_change(max(sizes)).lstrip('+')}{unit} in “{info.label}”")
    return ", ".join(found)


def _read_evaluations(run: Path, split: str) -> dict[int, Table]:
    """Return evaluated step → table of the split. Raises InputError where there is none."""
    evaluated = {step: tables[split] for step in evaluated_steps(run) if split in (tables := read_tables(run, step))}
    if not evaluated:
        raise InputError(
            f"{run} has no captions of {split!r}; check that it is a run folder and that the run held out such images"
        )
    return evaluated


def _values(table: Table, metric: str, ids: Sequence[str]) -> np.ndarray:
    """Return the (N,) values of a metric, in the order of `ids`."""
    row_of_id = {id: i for i, id in enumerate(table.ids)}
    return table.metrics[metric][[row_of_id[id] for id in ids]]


def _check_evaluation_settings(runs: Sequence[Path]) -> None:
    """Raise InputError where two runs measured with different models or words."""
    settings_of_run = {}
    for run in runs:
        values = run_config(run)
        if values is not None:  # captions that no run produced come without a configuration
            own = values.get("evaluation", {})
            settings_of_run[run] = [own.get(key, default) for key, default in EVALUATION_SETTINGS.items()]
    for run, settings in settings_of_run.items():
        first = next(iter(settings_of_run))
        for key, one, two in zip(EVALUATION_SETTINGS, settings_of_run[first], settings, strict=True):
            if one != two:
                raise InputError(
                    f"evaluation.{key} is {one!r} in {first} and {two!r} in {run}; numbers that were measured "
                    "differently can't be compared"
                )


def _variant_names(folders: Sequence[Sequence[Path]]) -> tuple[str, ...]:
    """Return the name of each variant.

    It is the folder's name. Where a variant has several runs, the seed at the end of the name is left out. Where names
    are not distinct, they are the paths of the first runs.
    """
    names = [runs[0].name if len(runs) == 1 else runs[0].name.rstrip("0123456789").rstrip("-_") for runs in folders]
    if len(set(names)) < len(names):
        names = [str(runs[0]) for runs in folders]
    return tuple(names)
