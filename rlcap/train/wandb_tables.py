"""Logs the results of a finished run to W&B: the held-out metrics, the panel of images, and a table of changes.

The main process calls `log_tables` after `rlcap.eval.summary.summarise`. The trainer logs its own metrics itself. The
held-out metrics become curves over a step of their own (`evaluation/step`). Their last values stand in the summary of the
W&B run under `<split>/<metric>`, where a sweep finds its objective. `<split>/objective` combines the three aims of training
in one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from rlcap.eval.metric_catalog import HEADLINES, metric_info, reading_order
from rlcap.eval.summary import read_summary
from rlcap.io.images import open_image
from rlcap.io.text import read_log
from rlcap.train.run_folder import RunFolder

if TYPE_CHECKING:
    import wandb

THUMBNAIL_SIDE = 256
"""Width and height of a panel image, in pixels."""
STEP = "evaluation/step"
"""Name of the metric that counts the steps of evaluations."""


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


def log_tables(folder: RunFolder) -> None:
    """Log the results in a run folder to the active W&B run. Without an active run, do nothing.

    Args:
        folder: A run folder with summary.json.
    """
    import wandb

    run = wandb.run
    if run is None:
        return
    summary = read_summary(folder.root)
    rows: dict[int, dict[str, float]] = {}
    for evaluation in summary["evaluations"]:
        split, metrics = evaluation["split"], evaluation["metrics"]
        row = {f"{split}/{name}": value["mean"] for name, value in metrics.items()}
        row[f"{split}/objective"] = objective(metrics)
        rows.setdefault(evaluation["step"], {}).update(row)
    # Each metric is defined by its name, because the trainer's callback has defined `*` over the optimiser's step.
    run.define_metric(STEP, hidden=True)
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        run.define_metric(name, step_metric=STEP)
    panel = read_log(folder.panel)
    thumbnails = {path: make_thumbnail(path) for path in dict.fromkeys(row["image"] for row in panel)}
    run.define_metric("panel/*", step_metric=STEP)
    for step in sorted({*rows, *(row["step"] for row in panel)}):
        shown = [wandb.Image(thumbnails[row["image"]], caption=row["caption"]) for row in panel if row["step"] == step]
        run.log({STEP: step, **rows.get(step, {}), **({"panel/images": shown} if shown else {})})
    tables = {"final": build_final_table(summary)} | ({"panel": build_panel_table(panel, thumbnails)} if panel else {})
    run.log(tables)
    for step in sorted(rows):
        run.summary.update(rows[step])


def build_final_table(summary: Mapping[str, Any]) -> wandb.Table:
    """Return a table of the changes from the first to the last evaluation.

    The table has one row per split and metric, with the paired 95 % confidence interval of the change.

    Args:
        summary: Contents of summary.json.
    """
    import wandb

    table = wandb.Table(
        ["split", "metric", "images", "before", "after", "change", "low", "high", "better is", "meaning"]
    )
    for change in summary["changes"]:
        for name in reading_order(set(change["metrics"])):
            values, info = change["metrics"][name], metric_info(name)
            difference = values["difference"]
            interval = (difference["mean"], difference["low"], difference["high"])
            numbers = (values["n"], values["before"], values["after"], *interval)
            direction = {1: "higher", -1: "lower", 0: "–"}[info.better]
            table.add_data(change["split"], name, *numbers, direction, info.label)
    return table


def build_panel_table(panel: Sequence[Mapping[str, Any]], thumbnails: Mapping[str, Image.Image]) -> wandb.Table:
    """Return a table of the panel: one row per image and step, with caption, scores and critiques.

    Args:
        panel: Rows of panel.jsonl.
        thumbnails: Image path → thumbnail.
    """
    import wandb

    terms = list(dict.fromkeys(name for row in panel for name in row["scores"]))
    # These images can't be shared with other keys, because W&B moves the file of an image when it logs the image.
    images = {path: wandb.Image(picture) for path, picture in thumbnails.items()}
    table = wandb.Table(["image", "sample", "step", "caption", *terms, "notes"])
    for row in sorted(panel, key=lambda row: (row["sample_id"], row["step"])):
        notes = "\n\n".join(f"{name}: {note}" for name, note in row["notes"].items())
        scores = [row["scores"].get(name) for name in terms]
        table.add_data(images[row["image"]], row["sample_id"], row["step"], row["caption"], *scores, notes)
    return table


def make_thumbnail(path: str) -> Image.Image:
    """Return the image in a square of `THUMBNAIL_SIDE` pixels, with white margins: W&B's galleries need one size."""
    return ImageOps.pad(open_image(path), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), color="white")
