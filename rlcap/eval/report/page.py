"""`report.html` of a run: one file, no script and no network, made from the run folder alone.

    write_report("runs/lab")        # → runs/lab/report.html

What got better and by how much, the rewards over training beside what was measured on held-out images, the same images
followed through training, the worst regressions, and how the run was made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rlcap.eval.captions_file import Table, write_atomically
from rlcap.eval.metric_catalog import HEADLINES, MAIN_METRICS, canonical_name, metric_info, reading_order
from rlcap.eval.over_optimization import classify_change, describe_alarm
from rlcap.eval.report.charts import swatch
from rlcap.eval.report.training_charts import held_out_chart, other_charts, reward_chart
from rlcap.eval.run_files import RunFiles, read_run, thumbnail

FOLLOWED = 8
REGRESSIONS = 6
IMAGE, BAG_IMAGE = 256, 96


def write_report(run_dir: str | os.PathLike) -> Path:
    """Write `report.html` into the run folder and return its path.

    Raises:
        FileNotFoundError: the folder has no summary.json.
        ValueError: a file of the folder is not what it should be; the message names it.
    """
    files = read_run(Path(run_dir))
    environment = Environment(
        loader=PackageLoader("rlcap.eval", "report"),
        autoescape=True,  # captions are untrusted text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"about": metric_info, "swatch": swatch}
    page = environment.get_template("page.html.jinja").render(page_of(files))
    path = files.folder / "report.html"
    write_atomically(path, page)
    return path


def page_of(files: RunFiles) -> dict[str, Any]:
    """What the template shows."""
    # the split that decides comes first: `test` where there is one
    changes = sorted(files.summary.get("changes") or [], key=lambda change: change["split"] != "test")
    main = changes[0] if changes else None
    return {
        "name": files.folder.resolve().name,
        "steps": files.summary["steps"],
        "duration": _duration(files.summary["seconds"]),
        "missing": files.missing,
        "cards": _cards(main) if main else [],
        "headline": _headline(_cards(main)) if main else "Nothing to compare yet: one evaluation.",
        "main": main,
        "tables": [_comparison(files.summary, change) for change in changes] or _single(files.summary),
        "rewards": reward_chart(files),
        "held_out": held_out_chart(files),
        "others": other_charts(files),
        "alarms": [(alarm["split"], describe_alarm(alarm)) for alarm in files.summary.get("alarms") or ()],
        "followed": _followed(files),
        "regressions": _regressions(files, main),
        "config": files.config,
        "run": _flat(files.run),
    }


# ---- what changed


def _cards(change: dict[str, Any]) -> list[dict[str, Any]]:
    cards = []
    for wanted, names in HEADLINES:
        name = next((found for name in names for found in change["metrics"] if canonical_name(found) == name), None)
        if name:
            found = change["metrics"][name]
            cards.append(
                {"wanted": wanted, "verdict": classify_change(name, found["difference"]), **_cells(name, found)}
            )
    return cards


def _cells(name: str, found: dict[str, Any]) -> dict[str, Any]:
    what, difference, relative = metric_info(name), found["difference"], found["relative"]
    return {
        "name": name,
        "label": what.label,
        "before": what.format(found["before"]),
        "after": what.format(found["after"]),
        "difference": what.format_change(difference["mean"]),
        "unit": "points" if what.unit == "share" else "",
        "interval": f"{what.format_change(difference['low'])} … {what.format_change(difference['high'])}",
        "relative": f"{100 * relative['mean']:+.0f}\N{NO-BREAK SPACE}%".replace("-", "−") if relative else "",
        "n": found["n"],
    }


def _headline(cards: Sequence[dict[str, Any]]) -> str:
    def listed(verdict: str) -> str:
        words = [card["wanted"].lower() for card in cards if card["verdict"] == verdict]
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    better, worse, unclear = listed("better"), listed("worse"), listed("unclear")
    parts = [f"The captions became {better}." if better else "No headline metric got clearly better."]
    if worse:
        parts.append(f"The opposite of what was wanted: {worse}.")
    if unclear and (better or worse):
        parts.append(f"Not shown: {unclear}.")
    return " ".join(parts)


def _comparison(summary: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    def intervals(step: int) -> dict[str, dict[str, float]]:
        return next(e["metrics"] for e in summary["evaluations"] if (e["step"], e["split"]) == (step, change["split"]))

    first, last = intervals(change["from"]), intervals(change["to"])
    rows = []
    for name in reading_order(set(change["metrics"])):
        found, what = change["metrics"][name], metric_info(name)
        row = {
            "verdict": classify_change(name, found["difference"]),
            "main": canonical_name(name) in MAIN_METRICS,
            **_cells(name, found),
        }
        for key, values in (("before_interval", first), ("after_interval", last)):
            one = values.get(name)
            row[key] = f"{what.format(one['low'])} – {what.format(one['high'])}" if one else ""
        rows.append(row)
    return {"split": change["split"], "n": change["n"], "from": change["from"], "to": change["to"], "rows": rows}


def _single(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One evaluation a split, shown as it is: nothing to compare."""
    tables = []
    for evaluation in summary["evaluations"]:
        rows = []
        for name in reading_order(set(evaluation["metrics"])):
            value, what = evaluation["metrics"][name], metric_info(name)
            interval = f"{what.format(value['low'])} – {what.format(value['high'])}"
            row = {
                "name": name,
                "label": what.label,
                "main": canonical_name(name) in MAIN_METRICS,
                "verdict": "",
                "n": evaluation["n"],
            }
            row |= {"before": what.format(value["mean"]), "before_interval": interval}
            rows.append(
                row | dict.fromkeys(("after", "after_interval", "difference", "interval", "relative", "unit"), "")
            )
        tables.append({**{key: evaluation[key] for key in ("split", "n")}, "from": evaluation["step"], "to": None})
        tables[-1]["rows"] = rows
    return tables


# ---- images


def _picture(path: str, side: int) -> dict[str, Any]:
    return {"uri": thumbnail(path, side), "file": Path(path).name}


def _marked(caption: str, false: Sequence[tuple[int, int, str]]) -> Markup:
    """The caption as HTML, its false sentences underlined and explained."""
    html, end = Markup(), 0
    for start, stop, why in sorted(false):
        html += escape(caption[end:start])
        html += Markup('<u class="false" title="not in the image: {}">{}</u>').format(why, caption[start:stop])
        end = stop
    return html + escape(caption[end:])


def _known_false(files: RunFiles) -> dict[tuple[str, str], list[tuple[int, int, str]]]:
    """(sample id, caption) → its false sentences, of all evaluated captions."""
    return {
        (id, caption): false
        for splits in files.tables.values()
        for table in splits.values()
        for id, caption, false in zip(table.ids, table.captions, table.false, strict=True)
    }


def _followed(files: RunFiles) -> list[dict[str, Any]]:
    """The panel's images, each with what was said of it at each step; without a panel, the first evaluated images."""
    rows = files.panel or [
        {"step": step, "sample_id": id, "image": image, "caption": caption, "scores": {}, "notes": {}, "bag": []}
        for step, splits in files.tables.items()
        for table in list(splits.values())[:1]
        for id, image, caption in list(zip(table.ids, table.images, table.captions, strict=True))[:FOLLOWED]
    ]
    known = _known_false(files)
    images: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        images.setdefault(row["sample_id"], []).append(row)
    followed = []
    for id, said in list(images.items())[:FOLLOWED]:
        image = said[0]["image"]
        bag = max((row.get("bag") or [] for row in said), key=len)
        moments = []
        for row in said:
            scores = [
                (n, None if v is None else f"{v:.2f}".replace("-", "−")) for n, v in (row.get("scores") or {}).items()
            ]
            notes = [(n, note) for n, note in (row.get("notes") or {}).items() if note]
            caption = _marked(row["caption"], known.get((id, row["caption"]), ()))
            moments.append({"step": row["step"], "caption": caption, "scores": scores, "notes": notes})
        bag_pictures = [_picture(path, BAG_IMAGE) for path in bag[:6]]
        followed.append({"id": id, "picture": _picture(image, IMAGE), "bag": bag_pictures, "moments": moments})
    return followed


def _regressions(files: RunFiles, main: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The images whose headline metrics fell most, added up in their good direction, worst first."""
    if not main:
        return []
    before, after = (files.tables.get(main[key], {}).get(main["split"]) for key in ("from", "to"))
    if before is None or after is None:
        return []
    names = [card["name"] for card in _cards(main)]
    place = {id: i for i, id in enumerate(after.ids)}
    falls = []
    for i, id in enumerate(before.ids):
        if id in place:
            deltas = {name: _delta(before, after, name, i, place[id]) for name in names}
            total = sum(metric_info(name).better * delta for name, delta in deltas.items() if math.isfinite(delta))
            falls.append((total, i, place[id], deltas))
    falls = sorted((fall for fall in falls if fall[0] < 0), key=lambda fall: fall[:2])[:REGRESSIONS]
    shown = []
    for _, i, j, deltas in falls:
        changed = [
            {
                "label": metric_info(name).label,
                "verdict": "better" if metric_info(name).better * delta > 0 else "worse",
                "before": metric_info(name).format(before.metrics[name][i]),
                "after": metric_info(name).format(after.metrics[name][j]),
            }
            for name, delta in deltas.items()
            if math.isfinite(delta) and delta
        ]
        captions = {
            "before": _marked(before.captions[i], before.false[i]),
            "after": _marked(after.captions[j], after.false[j]),
        }
        shown.append(
            {"id": before.ids[i], "picture": _picture(before.images[i], IMAGE), "changed": changed, **captions}
        )
    return shown


def _delta(before: Table, after: Table, name: str, i: int, j: int) -> float:
    if name not in before.metrics or name not in after.metrics:
        return math.nan
    return float(after.metrics[name][j] - before.metrics[name][i])


# ---- how it was made


def _flat(data: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(data, dict):
        return [row for key, value in data.items() for row in _flat(value, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, ", ".join(map(str, data)) if isinstance(data, list) else str(data))]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
