"""Which images can't be decoded: found once, before a run, and remembered.

A file that is broken in its middle has a good header and a good end; only decoding shows it, and training would meet it
hours later. So each file is decoded once (see `decode_image` for what that costs) on all cores, and those that passed
are noted in the cache under their path, size and time of change: the next start only looks them up, 0.01 ms each.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from rlcap.io.embedding_cache import default_cache
from rlcap.io.images import ImageError, decode_image

_PART = 1000
"""Images between two notes: what an interrupted check loses at most."""
_DIGITS = 32


def find_undecodable(paths: Sequence[str], notes: Path | None = None) -> dict[str, ImageError]:
    """Path → what is wrong with the image, for those that can't be decoded.

    A bar is shown where it takes longer than two seconds.

    Args:
        notes: the file of those that passed; default `default_cache() / "decoded-images.txt"`, which may be deleted.
    """
    notes = notes if notes is not None else default_cache() / "decoded-images.txt"
    passed = set(notes.read_text().split()) if notes.exists() else set()
    unknown = [(path, stamp) for path in dict.fromkeys(paths) if (stamp := _stamp(path)) not in passed]
    broken: dict[str, ImageError] = {}
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(unknown), desc="decoding each image once", unit="image", delay=2) as bar,
    ):
        for start in range(0, len(unknown), _PART):
            part = unknown[start : start + _PART]
            good = []
            for (path, stamp), error in zip(part, pool.map(_attempt, (path for path, _ in part)), strict=True):
                if error is None:
                    good.append(stamp)
                else:
                    broken[path] = error
                bar.update()
            _note(notes, good)
    return broken


def _attempt(path: str) -> ImageError | None:
    try:
        decode_image(path)
    except ImageError as error:
        return error
    return None


def _stamp(path: str) -> str:
    stat = os.stat(path)
    return hashlib.sha256(f"{os.path.abspath(path)}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:_DIGITS]


def _note(notes: Path, stamps: Sequence[str]) -> None:
    """Append in one write; half a line that a kill leaves behind matches no stamp."""
    if stamps:
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a") as file:
            file.write("\n" + "\n".join(stamps) + "\n")
