"""Logs the results of a finished run to W&B: the held-out metrics, the panel of images, and a table of changes.

The trainer logs its own metrics itself. The held-out metrics become curves over a step of their own (`evaluation/step`).
Their last values stand in the summary of the W&B run under `<split>/<metric>`, where a sweep finds its objective.
"""

from __future__ import annotations

from PIL import Image, ImageOps

from rlcap.eval.summary import read_summary
from rlcap.io.images import open_image
from rlcap.io.text import read_log
from rlcap.train.result_tables import numbers_by_step, table_of_changes, table_of_panel
from rlcap.train.run_folder import RunFolder

THUMBNAIL_SIDE = 256
"""Width and height of a panel image, in pixels."""
STEP = "evaluation/step"
"""Name of the metric that counts the steps of evaluations."""


def log_results(folder: RunFolder) -> None:
    """Log the results in a run folder to the active W&B run. Without an active run, do nothing.

    Args:
        folder: A run folder with summary.json.
    """
    import wandb

    run = wandb.run
    if run is None:
        return
    summary = read_summary(folder.root)
    rows = numbers_by_step(summary)
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
    changes = table_of_changes(summary)
    tables = {"final": wandb.Table([*changes.columns], changes.rows)}
    if panel:
        columns, captions = table_of_panel(panel)
        # These images can't be shared with other keys, because W&B moves the file of an image when it logs the image.
        images = {path: wandb.Image(picture) for path, picture in thumbnails.items()}
        tables["panel"] = wandb.Table([*columns], [[images[path], *cells] for path, *cells in captions])
    run.log(tables)
    for step in sorted(rows):
        run.summary.update(rows[step])


def make_thumbnail(path: str) -> Image.Image:
    """Return the image in a square of `THUMBNAIL_SIDE` pixels, with white margins: W&B's galleries need one size."""
    return ImageOps.pad(open_image(path), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), color="white")
