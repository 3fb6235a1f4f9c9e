"""What a finished run hands to W&B besides the trainer's scalars: the held-out metrics, the followed images, the final table.

Called on the main process after `rlcap.eval.summary.summarise`. The held-out metrics come as curves over their own step
(`evaluation/step`), and their last values stand in the run's summary under `<split>/<metric>`, where a sweep finds its
objective; `<split>/objective` puts the three aims into one number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageOps

from rlcap.eval.metric_catalog import HEADLINES, metric_info, reading_order
from rlcap.eval.summary import read_summary
from rlcap.io.images import open_image
from rlcap.train.run_folder import RunFolder, read_lines

SIDE = 256
"""Side of a panel image, in pixels."""
STEP = "evaluation/step"


def objective(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Return the mean of the headline metrics, where those that should fall count negatively.

    On the lab it is (R@1 in bags of 5 + facts told − false claims) / 3, in [−1/3, 2/3]. Only held-out metrics count, so that a sweep over weights
    can't win by its weights.

    Raises:
        ValueError: where none of them was measured.
    """
    names = [next((name for name in names if name in metrics), None) for _, names in HEADLINES]
    values = [metric_info(name).better * metrics[name]["mean"] for name in names if name]
    if not values:
        raise ValueError(f"no headline metric among {', '.join(metrics) or 'no metrics'}; evaluate the run first")
    return sum(values) / len(values)


def log_tables(folder: RunFolder) -> None:
    """Log a run folder with summary.json to the active W&B run; without one, nothing."""
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
    # One name at a time: the trainer's callback has claimed `*` for the optimiser's step.
    run.define_metric(STEP, hidden=True)
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        run.define_metric(name, step_metric=STEP)
    panel = read_lines(folder.panel) if folder.panel.exists() else []
    thumbnails = {path: thumbnail(path) for path in dict.fromkeys(row["image"] for row in panel)}
    run.define_metric("panel/*", step_metric=STEP)
    for step in sorted({*rows, *(row["step"] for row in panel)}):
        shown = [wandb.Image(thumbnails[row["image"]], caption=row["caption"]) for row in panel if row["step"] == step]
        run.log({STEP: step, **rows.get(step, {}), **({"panel/images": shown} if shown else {})})
    tables = {"final": final_table(summary)} | ({"panel": panel_table(panel, thumbnails)} if panel else {})
    run.log(tables)
    for step in sorted(rows):
        run.summary.update(rows[step])


def final_table(summary: Mapping[str, Any]) -> Any:
    """A wandb.Table of what changed: one row per split and metric, with its paired 95 % interval."""
    import wandb

    table = wandb.Table(
        ["split", "metric", "images", "before", "after", "change", "low", "high", "better is", "meaning"]
    )
    for change in summary["changes"]:
        for name in reading_order(set(change["metrics"])):
            found, ruler = change["metrics"][name], metric_info(name)
            moved = found["difference"]
            numbers = (found["n"], found["before"], found["after"], moved["mean"], moved["low"], moved["high"])
            direction = {1: "higher", -1: "lower", 0: "–"}[ruler.better]
            table.add_data(change["split"], name, *numbers, direction, ruler.label)
    return table


def panel_table(panel: Sequence[Mapping[str, Any]], thumbnails: Mapping[str, Image.Image]) -> Any:
    """A wandb.Table of the followed images: a row an image and step, with caption, scores and critiques.

    panel: rows of panel.jsonl. thumbnails: image path → picture.
    """
    import wandb

    components = list(dict.fromkeys(name for row in panel for name in row["scores"]))
    # Made here and not shared with other keys: W&B moves an image's file when it logs it.
    images = {path: wandb.Image(picture) for path, picture in thumbnails.items()}
    table = wandb.Table(["image", "sample", "step", "caption", *components, "notes"])
    for row in sorted(panel, key=lambda row: (row["sample_id"], row["step"])):
        notes = "\n\n".join(f"{name}: {note}" for name, note in row["notes"].items())
        scores = [row["scores"].get(name) for name in components]
        table.add_data(images[row["image"]], row["sample_id"], row["step"], row["caption"], *scores, notes)
    return table


def thumbnail(path: str) -> Image.Image:
    """The image in a square of SIDE × SIDE pixels, its proportions kept: W&B's galleries want one size."""
    return ImageOps.pad(open_image(path), (SIDE, SIDE), color="white")
