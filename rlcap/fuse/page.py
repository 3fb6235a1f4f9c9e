"""The page of a fusion: photos beside their paragraphs, each sentence coloured by whether statements support it.

Like the report of a run, it is a single file without network access.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlcap.data.panel import hashed
from rlcap.eval.report.templates import render_page
from rlcap.eval.run_files import thumbnail
from rlcap.fuse.preset import Preset
from rlcap.fuse.summary import FusionSummary
from rlcap.io.atomic import write_text
from rlcap.judge.image_crops import Box, position_of

PAGE_ROWS = 40
"""Rows that a page shows, by default."""
IMAGE = 384
"""Longest side of a picture in pixels."""


def write_page(
    path: Path, rows: Iterable[Mapping[str, Any]], preset: Preset, summary: FusionSummary, most: int = PAGE_ROWS
) -> None:
    """Write the page.

    Args:
        path: The file.
        rows: The fused rows. Where there are more than `most`, their hashed ids decide which are shown.
        preset: The preset.
        summary: The summary of all rows.
        most: Rows that are shown.
    """
    shown = heapq.nsmallest(most, rows, key=lambda row: (hashed(str(row["id"])), str(row["id"])))
    shown.sort(key=lambda row: str(row["id"]))
    context = {
        "paper": preset.paper,
        "deviations": preset.deviations,
        "mode": preset.verify.mode,
        "experts": list(preset.experts),
        "summary": summary.text().splitlines(),
        "total": summary.rows,
        "rows": [_row(row, path.parent) for row in shown],
    }
    write_text(path, render_page("fusion.html.jinja", context, package="rlcap.fuse"), "the page")


def _row(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a row for the template."""
    fusion = row["fusion"]
    statements = [_statement(number, one) for number, one in enumerate(fusion["statements"], 1)]
    image = folder / row["image"]
    return {
        "id": row["id"],
        "picture": {"uri": thumbnail(str(image), IMAGE, lossless=False), "file": image.name},
        "sentences": [_sentence(one, statements) for one in fusion["sentences"]],
        "dropped": [_sentence(one, statements) for one in fusion.get("dropped", ())],
        "rewritten": [_sentence(one, statements) for one in fusion.get("rewritten", ())],
        "statements": statements,
        "left_out": [_statement(0, one) for one in fusion.get("left_out", ())],
    }


def _statement(number: int, statement: Mapping[str, Any]) -> dict[str, Any]:
    box = statement.get("box")
    return {
        "number": number,
        "text": statement["text"],
        "source": statement["source"],
        "score": f"{statement['score']:.2f}" if "score" in statement else "",
        "place": position_of(Box(*box)) if box else "",
    }


def _sentence(sentence: Mapping[str, Any], statements: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a sentence with its class for the style sheet, the numbers of its statements, and a text for the pointer."""
    said = [statements[i] for i in sentence["statements"]]
    why = sentence.get("unsupported", "")
    kind = "down" if why or not said else "up"
    experts = ", ".join(dict.fromkeys(one["source"] for one in said))
    title = why or (f"said by {experts}" if said else "said by no expert")
    return {"text": sentence["text"], "kind": kind, "numbers": [one["number"] for one in said], "title": title}
