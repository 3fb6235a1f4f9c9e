"""The page of a comparison: which variant to choose, charts, the table, images side by side, and what the rewards said of words.

Like the report of a run, it is a single file without network access.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.eval.compare import Comparison, Row, describe_detectable, describe_p_value
from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.report.compare_charts import Tables, length_chart, read_variants, step_charts, trade_off_chart
from rlcap.eval.report.gallery import to_context, wins_and_losses
from rlcap.eval.report.span_marks import marked_images
from rlcap.eval.report.templates import render_page
from rlcap.eval.rollouts import read_rollouts, rollout_steps
from rlcap.eval.run_files import thumbnail
from rlcap.eval.statistics import describe_units
from rlcap.io.atomic import write_text

MARKED = 4
"""Images whose sampled captions the page shows with coloured words, at most."""
IMAGE = 512
"""Maximum side of an image in pixels."""


def write_comparison(path: str | os.PathLike, comparison: Comparison, variants: Sequence[Sequence[str | Path]]) -> None:
    """Write the page of a comparison.

    Args:
        path: The file.
        comparison: The result of `compare`.
        variants: The run folders that were compared. The page shows captions of the first run of each variant.

    Raises:
        InputError: A file of sampled captions can't be read.
    """
    arrows = {1: "↑", -1: "↓", 0: ""}
    tables = read_variants(variants, comparison.split)
    steps = step_charts(comparison, tables)
    context = {
        "choice": comparison.choice(),
        "trade_off": trade_off_chart(comparison),
        "over_steps": steps,
        "lengths": length_chart(comparison, tables),
        "galleries": _galleries(comparison, tables),
        "names": comparison.names,
        "steps": comparison.steps,
        "split": comparison.split,
        "seeds": comparison.seeds,
        "units": describe_units(comparison.images, comparison.clusters, comparison.seeds),
        "rows": [_cells(row) | {"arrow": arrows[metric_info(row.metric).better]} for row in comparison.rows],
        "left_out": comparison.left_out,
        "detectable": describe_detectable(comparison),
        "words": _words([Path(runs[0]) for runs in variants]),
    }
    write_text(path, render_page("compare.html.jinja", context), "the comparison")


def _cells(row: Row) -> dict[str, Any]:
    """Return a metric as text."""
    info = metric_info(row.metric)
    differences = []
    for difference, verdict, p in zip(row.differences, row.verdicts(), row.p_values, strict=True):
        mean, low, high = map(info.format_change, difference[:3])
        shown = "" if math.isnan(p) else describe_p_value(p)
        differences.append({"mean": mean, "interval": f"{low} … {high}", "verdict": verdict, "p": shown})
    values = [info.format(value.mean) for value in row.values]
    return {"label": info.label, "start": info.format(row.start.mean), "values": values, "differences": differences}


def _galleries(comparison: Comparison, tables: Tables) -> dict[str, Any] | None:
    """Return the images on which the variant that is clearly best most often gains and loses most against the first other one."""
    metrics = [goal.metric for goal in comparison.goals if metric_info(goal.metric).unit == "share"]
    if not metrics:
        return None
    clear = [sum(len(goal.clear) for goal in comparison.goals if goal.best == i) for i in range(len(comparison.names))]
    wins_of = [sum(goal.best == i for goal in comparison.goals) for i in range(len(comparison.names))]
    best = max(range(len(comparison.names)), key=lambda i: (clear[i], wins_of[i]))
    other = next(i for i in range(len(comparison.names)) if i != best)
    first, second = (own[0][max(own[0])] for own in (tables[other], tables[best]))
    wins, losses = (
        [to_context(pair, _picture(pair.image)) for pair in pairs] for pairs in wins_and_losses(first, second, metrics)
    )
    return {"titles": (comparison.names[other], comparison.names[best]), "wins": wins, "losses": losses}


def _picture(path: str) -> dict[str, Any]:
    return {"uri": thumbnail(path, IMAGE), "file": Path(path).name}


def _words(runs: Sequence[Path]) -> dict[str, Any] | None:
    """Return captions of the last step that all runs sampled, for images that all have; None where no reward said anything of words."""
    steps = set.intersection(*map(rollout_steps, runs))
    if not steps:
        return None
    images = marked_images([read_rollouts(run, max(steps)) for run in runs], MARKED)
    for image in images:
        image["picture"] = _picture(image["image"]) if image["image"] else None
    return {"step": max(steps), "images": images} if images else None
