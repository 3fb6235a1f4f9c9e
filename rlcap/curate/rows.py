"""Rows that `rlcap curate` writes: JSON Lines that every recipe reads as its data source."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rlcap.types import Sample


def to_row(sample: Sample, folder: Path, **added: Any) -> dict[str, Any]:
    """Return the row of a sample for a file in a folder.

    Args:
        sample: The sample. Its distractors are left out: they belong into a bag file.
        folder: The folder of the file, from which a relative image path starts.
        **added: Further entries of the row.
    """
    image = sample.image if os.path.isabs(sample.image) else os.path.relpath(sample.image, folder)
    row: dict[str, Any] = {"id": sample.id, "image": image, "references": list(sample.references)}
    row |= {"paragraph": sample.paragraph} if sample.paragraph is not None else {}
    row |= {"control": sample.control.to_dict()} if sample.control else {}
    row |= {key: value for key, value in sample.meta.items() if key not in row}
    return row | added
