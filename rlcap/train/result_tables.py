"""The results of a finished run in the form that experiment trackers take: numbers by step, and tables.

`wandb_tables` and `tensorboard_tables` send them. The numbers are named `<split>/<metric>`; `<split>/objective` combines the
three aims of training in one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlcap.eval.metric_catalog import HEADLINES, metric_info, reading_order


class Table(NamedTuple):
    """A table of results."""

    columns: list[str]
    rows: list[list[Any]]


def objective(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Return the mean of the headline metrics; metrics of which lower values are better count negatively.

    In the lab, the objective is (R@1 in bags of 5 + fact recall − false claims) / 3, in [−1/3, 2/3]. It contains held-out
    metrics only, so a sweep over the weights of rewards can't improve it by a change of scale.

    Args:
        metrics: Metric → its statistics, with the `mean` among them.

    Raises:
        ValueError: None of the headline metrics was measured.
    """
    names = [next((name for name in names if name in metrics), None) for _, names in HEADLINES]
    values = [metric_info(name).better * metrics[name]["mean"] for name in names if name]
    if not values:
        raise ValueError(
            f"the metrics ({', '.join(metrics) or 'none'}) contain no headline metric; evaluate the run first"
        )
    return sum(values) / len(values)


def numbers_by_step(summary: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """Return step → name → mean of the held-out metrics and the objective of each split.

    Args:
        summary: Contents of summary.json.
    """
    rows: dict[int, dict[str, float]] = {}
    for evaluation in summary["evaluations"]:
        split, metrics = evaluation["split"], evaluation["metrics"]
        row = {f"{split}/{name}": value["mean"] for name, value in metrics.items()}
        row[f"{split}/objective"] = objective(metrics)
        rows.setdefault(evaluation["step"], {}).update(row)
    return rows


def table_of_changes(summary: Mapping[str, Any]) -> Table:
    """Return a table of the changes from the first to the last evaluation.

    The table has one row per split and metric, with the paired 95 % confidence interval of the change.

    Args:
        summary: Contents of summary.json.
    """
    columns = ["split", "metric", "images", "before", "after", "change", "low", "high", "better is", "meaning"]
    rows: list[list[Any]] = []
    for change in summary["changes"]:
        for name in reading_order(set(change["metrics"])):
            values, info = change["metrics"][name], metric_info(name)
            difference = values["difference"]
            interval = (difference["mean"], difference["low"], difference["high"])
            numbers = (values["n"], values["before"], values["after"], *interval)
            direction = {1: "higher", -1: "lower", 0: "–"}[info.better]
            rows.append([change["split"], name, *numbers, direction, info.label])
    return Table(columns, rows)


def table_of_panel(panel: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the followed images: one row per image and step, with the path of the image first.

    Args:
        panel: Rows of panel.jsonl.
    """
    terms = list(dict.fromkeys(name for row in panel for name in row["scores"]))
    rows = []
    for row in sorted(panel, key=lambda row: (row["sample_id"], row["step"])):
        notes = "\n\n".join(f"{name}: {note}" for name, note in row["notes"].items())
        scores = [row["scores"].get(name) for name in terms]
        rows.append([row["image"], row["sample_id"], row["step"], row["caption"], *scores, notes])
    return Table(["image", "sample", "step", "caption", *terms, "notes"], rows)
