"""Logs that are written chunk by chunk: after a kill, chunks begin where they would have begun, so that the bytes are the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rlcap.errors import InputError
from rlcap.io.atomic import append_rows, replaced_file, write_text
from rlcap.io.text import iter_log


def begin_log(path: Path, settings: Mapping[str, Any], chunk: int) -> int:
    """Create a log whose first line holds its settings, or cut it back to its complete chunks, and return how many rows it has.

    Args:
        path: The log.
        settings: What determines the rows, as JSON values.
        chunk: Rows that are appended at once.

    Raises:
        InputError: The log belongs to other settings.
    """
    entries = iter_log(path)
    head = next(entries, None)
    if head is None:
        write_text(path, "", "the log")
        append_rows(path, [{"settings": settings}], "the log")
        return 0
    if head != {"settings": settings}:
        raise InputError(
            f"{path} has the scores of other settings ({head.get('settings')!r:.300}); remove it, or choose another --out"
        )
    kept = sum(1 for _ in entries) // chunk * chunk
    with replaced_file(path, "the log") as partial, open(path, "rb") as old, open(partial, "wb") as new:
        new.writelines(islice(old, 1 + kept))
    return kept
