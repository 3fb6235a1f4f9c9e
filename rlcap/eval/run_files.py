"""What a run folder holds, read for the report; every part but the summary may be missing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.summary import read_summary
from rlcap.io.images import ImageError, open_image
from rlcap.types import InputError


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run folder's contents."""

    folder: Path
    summary: dict[str, Any]
    tables: dict[int, dict[str, Table]]
    """Evaluated step → split → captions and metrics."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl, by step."""
    panel: list[dict[str, Any]]
    """Lines of panel.jsonl."""
    config: str | None
    """config.yaml as it stands."""
    run: dict[str, Any]
    """run.json."""
    missing: tuple[str, ...]
    """Names of the files that are not there."""


def run_config(run_dir: str | Path) -> dict[str, Any] | None:
    """What config.yaml of a run says; None where there is none. InputError for one that is not YAML."""
    path = Path(run_dir) / "config.yaml"
    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return values if isinstance(values, dict) else {}


def read_run(run_dir: str | Path) -> RunFiles:
    """Read a run folder. FileNotFoundError, with what to do, where it has no summary."""
    folder = Path(run_dir)
    summary = read_summary(folder)
    config, run = folder / "config.yaml", folder / "run.json"
    names = ("config.yaml", "run.json", "metrics.jsonl", "panel.jsonl", "captions")
    return RunFiles(
        folder=folder,
        summary=summary,
        tables={step: read_tables(folder, step) for step in evaluated_steps(folder)},
        metrics=_latest(_lines(folder / "metrics.jsonl"), ("step",)),
        panel=_latest(_lines(folder / "panel.jsonl"), ("step", "sample_id")),
        config=config.read_text(encoding="utf-8") if config.exists() else None,
        run=json.loads(run.read_text(encoding="utf-8")) if run.exists() else {},
        missing=tuple(name for name in names if not (folder / name).exists()),
    )


@lru_cache(maxsize=512)
def thumbnail(path: str, side: int) -> str | None:
    """A data URI of the image, at most `side` pixels wide and high; None for a file that can't be opened."""
    try:
        image = open_image(path)
    except ImageError:
        return None  # the data may have been moved since: the page says so in the image's place
    small = max(image.size) <= 128
    image.thumbnail((side, side))
    data = io.BytesIO()
    if small:
        image.save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=82, optimize=True)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):  # a run that was killed may leave half a last line behind
                raise ValueError(f"{path}, line {number} is not JSON ({error}); remove the line") from error


def _latest(rows: Iterable[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """By step, the last of the rows that share their keys: a resumed run writes some steps again."""
    kept = {tuple(row[key] for key in keys): row for row in rows}
    return sorted(kept.values(), key=lambda row: row["step"])
