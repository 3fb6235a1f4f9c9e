"""Finds the images that can't be decoded, before a run starts, and remembers the ones that can.

A file that is damaged in the middle has an intact header and an intact end, so that only decoding reveals the damage.
Without this check, training would fail at the file hours later. Each file is therefore decoded once on all cores (see
`decode_image` for the time that this takes). The cache records the files that can be decoded by path, size and
modification time, so that the next start only looks them up, in 0.01 ms per file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from rlcap.errors import ImageError
from rlcap.io.cache import cache_folder
from rlcap.io.images import decode_image

_BATCH = 1000
"""Images between two writes to the record: an interrupted check loses at most these."""
_DIGITS = 32
"""Hexadecimal digits of a stamp."""


def find_undecodable(paths: Sequence[str], notes: Path | None = None) -> dict[str, ImageError]:
    """Return path → error for the images that can't be decoded.

    A progress bar appears when the check takes longer than two seconds.

    Args:
        paths: The image files, which must exist.
        notes: The file that records the images that can be decoded. The default is
            `cache_folder() / "decoded-images.txt"`. The file may be deleted.
    """
    notes = notes if notes is not None else cache_folder() / "decoded-images.txt"
    passed = set(notes.read_text().split()) if notes.exists() else set()
    unknown = [(path, stamp) for path in dict.fromkeys(paths) if (stamp := _stamp(path)) not in passed]
    broken: dict[str, ImageError] = {}
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(unknown), desc="decoding each image once", unit="image", delay=2) as bar,
    ):
        for start in range(0, len(unknown), _BATCH):
            batch = unknown[start : start + _BATCH]
            good = []
            for (path, stamp), error in zip(batch, pool.map(_try_decoding, (path for path, _ in batch)), strict=True):
                if error is None:
                    good.append(stamp)
                else:
                    broken[path] = error
                bar.update()
            _append_stamps(notes, good)
    return broken


def _try_decoding(path: str) -> ImageError | None:
    try:
        decode_image(path)
    except ImageError as error:
        return error
    return None


def _stamp(path: str) -> str:
    """Return a digest of path, size and modification time."""
    stat = os.stat(path)
    return hashlib.sha256(f"{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:_DIGITS]


def _append_stamps(notes: Path, stamps: Sequence[str]) -> None:
    """Append the stamps in one write. An incomplete line of a killed process matches no stamp."""
    if stamps:
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a") as file:
            file.write("\n" + "\n".join(stamps) + "\n")
