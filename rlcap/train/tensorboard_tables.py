"""Logs the results of a finished run to TensorBoard: the held-out metrics as curves, and two tables as Markdown.

TensorBoard has no tables, but shows Markdown under "text". The trainer logs its own metrics itself, to the same folder.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from rlcap.eval.summary import read_summary
from rlcap.io.text import read_log
from rlcap.train.result_tables import Table, numbers_by_step, table_of_changes, table_of_panel
from rlcap.train.run_folder import RunFolder


def log_results(folder: RunFolder) -> None:
    """Log the results in a run folder to the folder of the run's TensorBoard files.

    Args:
        folder: A run folder with summary.json.
    """
    summary = read_summary(folder.root)
    steps = numbers_by_step(summary)
    with _writer_class()(os.environ["TENSORBOARD_LOGGING_DIR"]) as writer:
        for step, numbers in sorted(steps.items()):
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
        writer.add_text("final", to_markdown(table_of_changes(summary)), max(steps))
        if panel := read_log(folder.panel):
            writer.add_text("panel", to_markdown(table_of_panel(panel)), max(steps))


def to_markdown(table: Table) -> str:
    """Return the table as Markdown, each row in one line."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _writer_class() -> Any:
    try:
        return importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:  # transformers accepts either package
        return importlib.import_module("tensorboardX").SummaryWriter


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "\\|").split())
