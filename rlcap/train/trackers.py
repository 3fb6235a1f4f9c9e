"""What experiment trackers get of a run besides the metrics of the training, which transformers sends to all of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rlcap.train.run_folder import RunFolder

SENDERS = {"wandb": "rlcap.train.wandb_tables", "tensorboard": "rlcap.train.tensorboard_tables"}
"""Tracker → the module whose `log_results` sends the results of a finished run."""


def send_results(trackers: Sequence[str], folder: RunFolder) -> None:
    """Send the held-out results of a finished run to those of the trackers that can show them.

    The main process calls this function after `rlcap.eval.summary.summarise`.
    """
    for name in trackers:
        if name in SENDERS:
            importlib.import_module(SENDERS[name]).log_results(folder)


def describe_what_is_not_sent(trackers: Sequence[str]) -> str:
    """Return one line that names the trackers that do not get the held-out results; "" where all of them do."""
    names = [name for name in trackers if name not in SENDERS]
    if not names:
        return ""
    return (
        f"{', '.join(names)}: get the metrics of the training; the held-out metrics and captions are in the run folder's "
        f"report.html, and only {' and '.join(SENDERS)} get them too"
    )
