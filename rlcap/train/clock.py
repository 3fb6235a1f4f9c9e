"""Measures the wall-clock seconds of a run over all its sessions, without the pauses between them."""

from __future__ import annotations

import time

from rlcap.io.text import read_json, read_log
from rlcap.train.run_folder import RunFolder


class Clock:
    """The clock of a session.

    A recipe makes the clock before it drops the steps after the last checkpoint from the run folder, because the time of
    these steps counts as well. A session that was killed counts up to the last step that it logged.

    Args:
        folder: The run folder. The seconds of earlier sessions are read from its metrics, summary and run.json.
        started: `time.monotonic()` at the start of the recipe.
    """

    def __init__(self, folder: RunFolder, started: float) -> None:
        self.started = started
        self.before = _read_earlier_seconds(folder)
        """Seconds of the earlier sessions."""

    def seconds(self) -> float:
        """Return the seconds of the earlier sessions and of this one so far."""
        return self.before + time.monotonic() - self.started


def _read_earlier_seconds(folder: RunFolder) -> float:
    found = [row["seconds"] for row in read_log(folder.metrics)]
    for name, key in (("summary.json", "seconds"), ("run.json", "seconds_before")):
        path = folder.root / name
        if path.exists():
            found.append(read_json(path).get(key) or 0.0)
    return float(max(found, default=0.0))
