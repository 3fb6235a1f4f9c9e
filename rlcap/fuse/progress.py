"""The progress of a fusion on disk: a file for each finished batch, from which a killed run continues.

    rows.jsonl.parts/
      run.json            what the parts belong to, and what the fuser has spent
      part-000000.jsonl   the outcomes of the first batch: {"row": …} or {"failed": …}

A part appears as a whole or not at all. So a run that is killed computes at most one batch again, and the rows are the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.errors import InputError
from rlcap.fuse.pipeline import Failure
from rlcap.io.atomic import make_folder, replaced_file, write_json, write_text
from rlcap.io.lock import FolderLock
from rlcap.io.text import read_json, read_log

Outcome = dict[str, Any] | Failure


class Progress:
    """The parts of a run, under a lock.

    Args:
        out: The file of rows that the parts become.
        fingerprint: A digest of the preset, the data and the batch size.

    Raises:
        InputError: The parts belong to another run.
        LockedError: Another process writes them.
    """

    def __init__(self, out: Path, fingerprint: str) -> None:
        self.out, self.folder = out, parts_folder(out)
        make_folder(self.folder, "the folder of the parts")
        self._lock = FolderLock(self.folder, "the fusion")
        self._state = self.folder / "run.json"
        known = read_json(self._state, "the record of the fusion") if self._state.exists() else None
        if known is not None and known["fingerprint"] != fingerprint:
            self._lock.release()
            raise InputError(
                f"{self.folder} belongs to another preset, other data or another batch size; remove the folder, or choose "
                "another --out"
            )
        self.fingerprint = fingerprint
        self.budget: dict[str, Any] | None = known["budget"] if known else None
        if known is None:
            self.save({})

    def save(self, budget: Mapping[str, Any]) -> None:
        """Write what the fuser has spent."""
        self.budget = dict(budget) or None
        write_json(self._state, {"fingerprint": self.fingerprint, "budget": self.budget}, "the record of the fusion")

    def is_done(self, batch: int) -> bool:
        """Return whether a batch is finished and has no image that should be tried again."""
        path = self._part(batch)
        return path.exists() and all(row.get("failed", {}).get("is_final", True) for row in read_log(path))

    def write(self, batch: int, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes of a batch."""
        lines = [json.dumps(_to_json(one), ensure_ascii=False) for one in outcomes]
        write_text(self._part(batch), "".join(f"{line}\n" for line in lines), "a part of the rows")

    def outcomes(self, batches: int) -> Iterator[Outcome]:
        """Yield the outcomes of all batches in order."""
        for batch in range(batches):
            for row in read_log(self._part(batch)):
                yield row["row"] if "row" in row else Failure(**row["failed"])

    def merge(self, batches: int) -> list[Failure]:
        """Write the file of rows from all parts, and return the failures."""
        failures = []
        with replaced_file(self.out, "the rows") as partial, open(partial, "w", encoding="utf-8") as file:
            for outcome in self.outcomes(batches):
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                else:
                    file.write(json.dumps(outcome, ensure_ascii=False) + "\n")
        return failures

    def close(self, remove: bool) -> None:
        """Give the lock back; `remove` deletes the parts as well."""
        self._lock.release()
        if remove:
            shutil.rmtree(self.folder)

    def _part(self, batch: int) -> Path:
        return self.folder / f"part-{batch:06d}.jsonl"


def parts_folder(out: Path) -> Path:
    """Return the folder of the parts of a file of rows."""
    return out.with_name(f"{out.name}.parts")


def _to_json(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"failed": {"id": outcome.id, "reason": outcome.reason, "is_final": outcome.is_final}}
    return {"row": outcome}
