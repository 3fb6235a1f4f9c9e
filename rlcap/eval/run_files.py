"""Reads the contents of a run folder for the report. Every part except the summary may be missing."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlcap.config.yaml_text import parse_yaml
from rlcap.errors import ImageError
from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.rollouts import Row, read_rollouts
from rlcap.eval.summary import read_summary
from rlcap.io.images import open_image
from rlcap.io.text import read_json, read_log, read_text


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The contents of a run folder."""

    folder: Path
    summary: dict[str, Any]
    tables: dict[int, dict[str, Table]]
    """Evaluated step → split → captions and metrics of that split."""
    metrics: list[dict[str, Any]]
    """Lines of metrics.jsonl, in order of step."""
    panel: list[dict[str, Any]]
    """Lines of panel.jsonl, in order of step."""
    config: str | None
    """The text of config.yaml; None where the file is missing."""
    run: dict[str, Any]
    """The contents of run.json; empty where the file is missing."""
    missing: tuple[str, ...]
    """Names of the files and folders that are missing."""
    sampled: list[Row]
    """The captions that training sampled in its last step; empty where it sampled none."""


def run_config(run_dir: str | Path) -> dict[str, Any] | None:
    """Return the parsed config.yaml of a run, or None where the file does not exist.

    Raises:
        InputError: The file is not YAML.
    """
    path = Path(run_dir) / "config.yaml"
    if not path.is_file():
        return None
    values = parse_yaml(read_text(path, "config file"), str(path))
    return values if isinstance(values, dict) else {}


def read_run(run_dir: str | Path) -> RunFiles:
    """Read a run folder.

    Raises:
        FileNotFoundError: The folder has no summary; the message says how to make one.
        ValueError: A line of metrics.jsonl, panel.jsonl or rollouts.jsonl, other than the last, is not JSON.
    """
    folder = Path(run_dir)
    summary = read_summary(folder)
    config, run = folder / "config.yaml", folder / "run.json"
    names = ("config.yaml", "run.json", "metrics.jsonl", "panel.jsonl", "captions")
    return RunFiles(
        folder=folder,
        summary=summary,
        tables={step: read_tables(folder, step) for step in evaluated_steps(folder)},
        metrics=_keep_latest(read_log(folder / "metrics.jsonl"), ("step",)),
        panel=_keep_latest(read_log(folder / "panel.jsonl"), ("step", "sample_id")),
        config=read_text(config, "config file") if config.exists() else None,
        run=read_json(run, "the run's record") if run.exists() else {},
        missing=tuple(name for name in names if not (folder / name).exists()),
        sampled=read_rollouts(folder),
    )


@lru_cache(maxsize=1024)
def thumbnail(path: str, side: int, lossless: bool = True) -> str | None:
    """Return a data URI of the image, at most `side` pixels wide and high, or None for a file that can't be opened.

    Images of at most 128 pixels a side become PNG, larger ones JPEG. Where many images are shown, `lossless=False` makes all of them
    JPEG, which is a tenth of the size.
    """
    try:
        image = open_image(path)
    except ImageError:
        return None  # the data may have moved since the run; the page then shows a note instead of the image
    is_small = lossless and max(image.size) <= 128
    image.thumbnail((side, side))
    data = io.BytesIO()
    if is_small:
        image.save(data, "PNG", optimize=True)
    else:
        image.save(data, "JPEG", quality=82, optimize=True)
    kind = "png" if is_small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _keep_latest(rows: Iterable[dict[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the rows in order of step, and of rows with equal keys only the last: a resumed run repeats some steps."""
    kept = {tuple(row[key] for key in keys): row for row in rows}
    return sorted(kept.values(), key=lambda row: row["step"])
