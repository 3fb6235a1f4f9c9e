"""Wall-clock seconds that a run has taken over all its sessions; the time while it was stopped does not count."""

from __future__ import annotations

import json
import time

from rlcap.train.run_folder import RunFolder, read_lines


class Clock:
    """Made at the start of a session, before the folder is rewound: what stands in it was spent, kept or not.

    A session that was killed counts up to the last step that it logged.

    Args:
        folder: the run's; earlier sessions are read from its metrics, summary and run.json.
        started: `time.monotonic()` at the start of the recipe.
    """

    def __init__(self, folder: RunFolder, started: float) -> None:
        self.started = started
        self.before = _spent(folder)
        """Seconds of the earlier sessions."""

    def seconds(self) -> float:
        """Of the earlier sessions and this one so far."""
        return self.before + time.monotonic() - self.started


def _spent(folder: RunFolder) -> float:
    found = [row["seconds"] for row in read_lines(folder.metrics)] if folder.metrics.exists() else []
    for name, key in (("summary.json", "seconds"), ("run.json", "seconds_before")):
        path = folder.root / name
        if path.exists():
            found.append(json.loads(path.read_text()).get(key) or 0.0)
    return float(max(found, default=0.0))
