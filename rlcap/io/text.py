"""Files of a JSON object a line that users bring: what is amiss in one is told with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlcap.errors import InputError


def read_rows(
    path: Path, what: str, form: str, flaw: Callable[[Any], str | None], error: type[InputError]
) -> list[dict[str, Any]]:
    """The rows of a file of `what`; blank lines are passed over.

    Args:
        form: what such a file holds, for the message where there is none.
        flaw: a row → what is wrong with it, or None.

    Raises:
        error: not there, empty, no JSON, or a row with a flaw; the message names file and line.
    """
    if not path.is_file():
        raise error(f"no {what} file {path}; {form}")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as cause:
            raise error(f"{path}, line {number} is not JSON: {cause}") from cause
        if found := flaw(row):
            raise error(f"{path}, line {number}: {found}")
        rows.append(row)
    if not rows:
        raise error(f"{path} holds no {what}")
    return rows
