"""The file `report.html` of a run: a single page without network access, made from the run folder alone.

    write_report("runs/lab")        # → runs/lab/report.html

The page's script sorts and filters the table of captions and enlarges images. Without scripts the page shows the same content.

The page shows what got better and by how much, the rewards over training together with the held-out metrics, the
captions of the same images during training, what the rewards said of which words, the worst regressions, and the configuration and versions of the run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.data.panel import hashed
from rlcap.eval.metric_catalog import HEADLINES, MAIN_METRICS, canonical_name, metric_info, reading_order, signed_text
from rlcap.eval.over_optimization import classify_change, describe_alarm
from rlcap.eval.report.captions_table import captions_table
from rlcap.eval.report.gallery import mark_false, to_context, wins_and_losses
from rlcap.eval.report.notes import read_note
from rlcap.eval.report.span_marks import marked_images
from rlcap.eval.report.templates import render_page
from rlcap.eval.report.training_charts import held_out_chart, other_charts, reward_chart
from rlcap.eval.run_files import RunFiles, read_run, run_config, thumbnail
from rlcap.eval.statistics import describe_units
from rlcap.io.atomic import write_text

FOLLOWED = 8
"""Images whose captions the report shows over training, at most."""
REGRESSIONS = 6
"""Regressions that the report shows, at most."""
MARKED = 6
"""Images whose sampled captions the report shows with coloured words, at most."""
IMAGE, BAG_IMAGE, ROW_IMAGE = 512, 96, 112
"""Maximum side in pixels of an image, of an image of its bag, and of an image in the table of captions."""


def write_report(run_dir: str | os.PathLike) -> Path:
    """Write `report.html` into the run folder and return its path.

    Raises:
        FileNotFoundError: The folder has no summary.json.
        ValueError: A file of the folder can't be read; the message names it.
    """
    files = read_run(Path(run_dir))
    page = render_page("page.html.jinja", build_page_context(files))
    path = files.folder / "report.html"
    write_text(path, page, "the report")
    return path


def build_page_context(files: RunFiles) -> dict[str, Any]:
    """Return the variables of the page template."""
    # the split of the headline comes first: `test` where there is one
    changes = sorted(files.summary.get("changes") or [], key=lambda change: change["split"] != "test")
    main = changes[0] if changes else None
    return {
        "name": files.folder.resolve().name,
        "steps": files.summary["steps"],
        "duration": _duration(files.summary["seconds"]),
        "missing": files.missing,
        "cards": _cards(main) if main else [],
        "headline": _headline(_cards(main)) if main else "Nothing to compare yet: the run has only one evaluation.",
        "main": main,
        "units": _units(main) if main else "",
        "tables": [_comparison_table(files.summary, change) for change in changes] or _single_tables(files.summary),
        "rewards": reward_chart(files),
        "held_out": held_out_chart(files),
        "others": other_charts(files),
        "alarms": [(alarm["split"], describe_alarm(alarm)) for alarm in files.summary.get("alarms") or ()],
        "followed": _followed_images(files),
        "words": _words(files),
        "regressions": _regressions(files, main),
        "captions": _captions(files, main, changes),
        "config": files.config,
        "run": _flatten(files.run),
    }


# ---- changes of the metrics


def _cards(change: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one card for each goal of `HEADLINES` for which the split has a metric."""
    cards = []
    for goal, candidates in HEADLINES:
        name = next((name for known in candidates for name in change["metrics"] if canonical_name(name) == known), None)
        if name:
            values = change["metrics"][name]
            cards.append({"goal": goal, "verdict": classify_change(name, values["difference"]), **_cells(name, values)})
    return cards


def _cells(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the change of a metric as text for cards and tables."""
    info, difference, relative = metric_info(name), values["difference"], values["relative"]
    return {
        "name": name,
        "label": info.label,
        "before": info.format(values["before"]),
        "after": info.format(values["after"]),
        "difference": info.format_change(difference["mean"]),
        "unit": "points" if info.unit == "share" else "",
        "interval": f"{info.format_change(difference['low'])} … {info.format_change(difference['high'])}",
        "relative": f"{signed_text(100 * relative['mean'], 0)}\N{NO-BREAK SPACE}%" if relative else "",
        "n": values["n"],
    }


def _headline(cards: Sequence[dict[str, Any]]) -> str:
    def goals_with(verdict: str) -> str:
        words = [card["goal"].lower() for card in cards if card["verdict"] == verdict]
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    better, worse, unclear = goals_with("better"), goals_with("worse"), goals_with("unclear")
    parts = [f"The captions became {better}." if better else "No headline metric got clearly better."]
    if worse:
        parts.append(f"The captions did not become {worse}, but the opposite.")
    if unclear and (better or worse):
        parts.append(f"No clear change: {unclear}.")
    return " ".join(parts)


def _comparison_table(summary: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a split that was evaluated at two steps or more."""

    def intervals(step: int) -> dict[str, dict[str, float]]:
        return next(e["metrics"] for e in summary["evaluations"] if (e["step"], e["split"]) == (step, change["split"]))

    first, last = intervals(change["from"]), intervals(change["to"])
    rows = []
    for name in reading_order(set(change["metrics"])):
        values, info = change["metrics"][name], metric_info(name)
        row = {
            "verdict": classify_change(name, values["difference"]),
            "main": canonical_name(name) in MAIN_METRICS,
            **_cells(name, values),
        }
        for key, intervals_of_step in (("before_interval", first), ("after_interval", last)):
            # The interval covers every image with a value; the mean in this table covers those with both values.
            interval = intervals_of_step.get(name) if values["n"] == change["n"] else None
            row[key] = f"{info.format(interval['low'])} – {info.format(interval['high'])}" if interval else ""
        rows.append(row)
    return {key: change[key] for key in ("split", "from", "to")} | {
        "n": change["n"],
        "units": _units(change),
        "rows": rows,
    }


def _units(part: dict[str, Any]) -> str:
    """Return over what the intervals of an evaluation or a change were taken."""
    return describe_units(part["n"], part["clusters"])


def _single_tables(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one table for each evaluation, without a comparison."""
    tables = []
    for evaluation in summary["evaluations"]:
        rows = []
        for name in reading_order(set(evaluation["metrics"])):
            value, info = evaluation["metrics"][name], metric_info(name)
            interval = f"{info.format(value['low'])} – {info.format(value['high'])}"
            row = {
                "name": name,
                "label": info.label,
                "main": canonical_name(name) in MAIN_METRICS,
                "verdict": "",
                "n": evaluation["n"],
            }
            row |= {"before": info.format(value["mean"]), "before_interval": interval}
            rows.append(
                row | dict.fromkeys(("after", "after_interval", "difference", "interval", "relative", "unit"), "")
            )
        tables.append({**{key: evaluation[key] for key in ("split", "n")}, "from": evaluation["step"], "to": None})
        tables[-1] |= {"units": _units(evaluation), "rows": rows}
    return tables


# ---- images


def _picture(path: str, side: int, lossless: bool = True) -> dict[str, Any]:
    return {"uri": thumbnail(path, side, lossless), "file": Path(path).name}


def _false_sentences(files: RunFiles) -> dict[tuple[str, str], list[tuple[int, int, str]]]:
    """Return (sample id, caption) → false sentences, for all evaluated captions."""
    return {
        (id, caption): false
        for splits in files.tables.values()
        for table in splits.values()
        for id, caption, false in zip(table.ids, table.captions, table.false, strict=True)
    }


def _followed_images(files: RunFiles) -> list[dict[str, Any]]:
    """Return the images of the panel, each with its captions, scores and notes at each step.

    Without a panel, these are some of the evaluated images with their captions only.
    """
    rows = files.panel or [
        {"step": step, "sample_id": id, "image": image, "caption": caption, "scores": {}, "notes": {}, "bag": []}
        for step, splits in files.tables.items()
        for table in list(splits.values())[:1]
        for id, image, caption in zip(table.ids, table.images, table.captions, strict=True)
    ]
    if not files.panel:  # similar images often stand one after the other
        kept = sorted(dict.fromkeys(row["sample_id"] for row in rows), key=hashed)[:FOLLOWED]
        rows = [row for row in rows if row["sample_id"] in kept]
    false = _false_sentences(files)
    rows_of_image: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        rows_of_image.setdefault(row["sample_id"], []).append(row)
    followed = []
    for id, image_rows in list(rows_of_image.items())[:FOLLOWED]:
        image = image_rows[0]["image"]
        bag = max((row.get("bag") or [] for row in image_rows), key=len)
        moments = []
        for row in image_rows:
            scores = [
                (n, None if v is None else signed_text(v, 2, plus=False)) for n, v in (row.get("scores") or {}).items()
            ]
            notes = [(n, read_note(note)) for n, note in (row.get("notes") or {}).items() if note]
            caption = mark_false(row["caption"], false.get((id, row["caption"]), ()))
            moments.append({"step": row["step"], "caption": caption, "scores": scores, "notes": notes})
        bag_pictures = [_picture(path, BAG_IMAGE) for path in bag[:6]]
        followed.append({"id": id, "picture": _picture(image, IMAGE), "bag": bag_pictures, "moments": moments})
    return followed


def _words(files: RunFiles) -> dict[str, Any] | None:
    """Return the captions of the last step with what the rewards said of which words; None where they said nothing of words."""
    images = marked_images([files.sampled], MARKED)
    if not images:
        return None
    for image in images:
        image["picture"] = _picture(image["image"], IMAGE) if image["image"] else None
    train = (run_config(files.folder) or {}).get("train") or {}
    return {"step": files.sampled[0]["step"], "images": images, "in_training": train.get("credit") == "claim"}


def _regressions(files: RunFiles, main: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the images whose headline metrics fell most, worst first."""
    if not main:
        return []
    before, after = (files.tables.get(main[key], {}).get(main["split"]) for key in ("from", "to"))
    if before is None or after is None:
        return []
    _, losses = wins_and_losses(before, after, [card["name"] for card in _cards(main)], REGRESSIONS)
    return [to_context(pair, _picture(pair.image, IMAGE)) for pair in losses]


def _captions(files: RunFiles, main: dict[str, Any] | None, changes: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the table of captions with its pictures and marked sentences; None where the run has no captions."""
    evaluated = [e["split"] for e in files.summary["evaluations"]]
    splits = list(dict.fromkeys([*(change["split"] for change in changes), *evaluated]))
    metrics = [card["name"] for card in _cards(main)] if main else []
    table = captions_table(files.tables, splits, metrics)
    for row in table["rows"] if table else ():
        row["picture"] = _picture(row["image"], ROW_IMAGE, lossless=False)
        for key in ("before", "after"):
            row[key] = mark_false(*row[key]) if row[key] is not None else None
    return table


# ---- configuration and versions


def _flatten(data: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return (dotted key, value as text) for each leaf of nested mappings."""
    if isinstance(data, dict):
        return [
            row for key, value in data.items() for row in _flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, ", ".join(map(str, data)) if isinstance(data, list) else str(data))]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
