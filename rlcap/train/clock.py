"""Wall-clock seconds that a run has taken over all its sessions, without the time while it was stopped."""

from __future__ import annotations

import json
import time

from rlcap.train.run_folder import RunFolder, read_lines


class Clock:
    """The clock of a session.

    It is made before the run folder is rewound, because time that was spent on dropped steps counts too. A session that
    was killed counts up to the last step that it logged.

    Args:
        folder: The run folder. The seconds of earlier sessions are read from its metrics, summary and run.json.
        started: `time.monotonic()` at the start of the recipe.
    """

    def __init__(self, folder: RunFolder, started: float) -> None:
        self.started = started
        self.before = _spent(folder)
        """Seconds of the earlier sessions."""

    def seconds(self) -> float:
        """Return the seconds of the earlier sessions and of this one so far."""
        return self.before + time.monotonic() - self.started


def _spent(folder: RunFolder) -> float:
    found = [row["seconds"] for row in read_lines(folder.metrics)] if folder.metrics.exists() else []
    for name, key in (("summary.json", "seconds"), ("run.json", "seconds_before")):
        path = folder.root / name
        if path.exists():
            found.append(json.loads(path.read_text()).get(key) or 0.0)
    return float(max(found, default=0.0))
