"""Reads users' JSON Lines files. Errors name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlcap.errors import InputError


def read_rows(
    path: Path, what: str, form: str, find_problem: Callable[[Any], str | None], error: type[InputError]
) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file; blank lines are skipped.

    Args:
        path: The file.
        what: What the rows are, for messages, such as "pairs".
        form: The expected form of the file, for the message where the file does not exist.
        find_problem: Returns the problem of a row as text, or None for a good row.
        error: The type of the errors.

    Raises:
        error: The file is missing or empty, a line is not JSON, or a row has a problem; the message names file and
            line.
    """
    if not path.is_file():
        raise error(f"there is no {what} file {path}; {form}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as cause:
            raise error(f"{path}, line {number} is not JSON: {cause}") from cause
        if problem := find_problem(row):
            raise error(f"{path}, line {number}: {problem}")
        rows.append(row)
    if not rows:
        raise error(f"{path} holds no {what}")
    return rows
