"""A cache of vectors on disk, keyed by content, read by memory map.

Embedding an image with a frozen model gives the same vector each time, so it is computed once per (model, image bytes)
and shared by mining, training, evaluation and every process of a run.

    cache = EmbeddingCache(default_cache() / "embeddings", "ViT-B-32 laion2b", dim=512)
    found, vectors = cache.get(keys)           # (N,) bool, (N, 512); rows that are not found hold zeros
    cache.put(missing_keys, new_vectors)

Two files that only grow: `vectors` (rows of numbers) and `keys` (a record a row: sha256 of the key, crc32 of the row).
A row exists once its record is whole, and the record is written after the row has reached the disk. Whatever a crash
leaves behind a whole record is ignored by readers and cut off by the next writer; a row that fails its checksum counts
as missing. Any number of processes may read and write: writers take turns by a file lock, readers need none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_RECORD = np.dtype([("key", "S32"), ("crc", "<u4")])
_KEY_BYTES = 32


def default_cache() -> Path:
    """Where caches live unless told otherwise: $RLCAP_CACHE, else ~/.cache/rlcap."""
    return Path(os.environ.get("RLCAP_CACHE") or Path.home() / ".cache" / "rlcap")


class EmbeddingCache:
    """Vectors of `dim` numbers under string keys, for the model called `name`.

    Args:
        folder: the parent folder; each (name, dim, dtype) gets its own folder inside.
        name: whatever decides the vectors besides the key: model, weights, preprocessing.
        dim: length of a vector.
        dtype: `float32`, or `float16` for half the disk at a relative error of 5e-4.

    Raises:
        ValueError: another dtype, or a folder that holds something else.
    """

    def __init__(self, folder: str | os.PathLike, name: str, dim: int, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"EmbeddingCache dtype must be 'float32' or 'float16', got {dtype!r}")
        self.name, self.dim, self.dtype = name, dim, np.dtype(dtype)
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.")
        digest = hashlib.sha256(f"{name}\0{dim}\0{dtype}".encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"{slug}-{digest}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keys, self._vectors = self.folder / "keys", self.folder / "vectors"
        self._rows: dict[bytes, tuple[int, int]] = {}  # key digest → (row, crc); a later record replaces an earlier one
        self._count = 0  # rows of the files that are in _rows
        self._map = np.empty((0, dim), self.dtype)
        self._describe()
        self._refresh()

    def __len__(self) -> int:
        self._refresh()
        return len(self._rows)

    def get(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(found (N,) bool, vectors (N, dim) in the cache's dtype); the vectors are a copy, zeros where not found."""
        digests = [_digest(key) for key in keys]
        if any(digest not in self._rows for digest in digests):
            self._refresh()
        found = np.zeros(len(digests), bool)
        vectors = np.zeros((len(digests), self.dim), self.dtype)
        for i, digest in enumerate(digests):
            if (entry := self._rows.get(digest)) is None:
                continue
            row = self._map[entry[0]]
            if zlib.crc32(row.tobytes()) == entry[1]:
                vectors[i] = row
                found[i] = True
        return found, vectors

    def put(self, keys: Sequence[str], vectors: np.ndarray) -> None:
        """Keep vectors (N, dim) under N keys; a key that is there already keeps its vector.

        Raises:
            ValueError: the shape doesn't fit, or a number is not finite.
        """
        vectors = np.asarray(vectors, dtype=self.dtype)
        if vectors.shape != (len(keys), self.dim):
            raise ValueError(
                f"EmbeddingCache.put: {len(keys)} keys need vectors ({len(keys)}, {self.dim}), got {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
            raise ValueError(
                f"EmbeddingCache.put: the vector of {keys[row]!r} is not finite; the model or image is broken"
            )
        with self._lock():
            there, _ = self.get(keys)
            new = {_digest(key): row for key, row, known in zip(keys, vectors, there, strict=True) if not known}
            if not new:
                return
            rows = [np.ascontiguousarray(row).tobytes() for row in new.values()]
            records = np.array([(digest, zlib.crc32(row)) for digest, row in zip(new, rows, strict=True)], _RECORD)
            self._refresh()
            row_bytes = self.dim * self.dtype.itemsize
            _append(self._vectors, self._count * row_bytes, b"".join(rows))
            _append(self._keys, self._count * _RECORD.itemsize, records.tobytes())
            self._refresh()

    def _describe(self) -> None:
        about = {"schema": 1, "name": self.name, "dim": self.dim, "dtype": self.dtype.name}
        path = self.folder / "about.json"
        if path.exists():
            if (seen := json.loads(path.read_text())) != about:
                raise ValueError(f"{self.folder} holds {seen}, not {about}; delete the folder to rebuild it")
            return
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(about))
        os.replace(part, path)

    def _refresh(self) -> None:
        """Read the records that other processes, or this one, have added since the last look."""
        sizes = [path.stat().st_size if path.exists() else 0 for path in (self._keys, self._vectors)]
        total = min(sizes[0] // _RECORD.itemsize, sizes[1] // (self.dim * self.dtype.itemsize))
        if total <= self._count:
            return
        with self._keys.open("rb") as file:
            file.seek(self._count * _RECORD.itemsize)
            data = file.read((total - self._count) * _RECORD.itemsize)
        records = np.frombuffer(data, _RECORD)
        for row, (key, crc) in enumerate(records.tolist(), self._count):
            self._rows[key.ljust(_KEY_BYTES, b"\0")] = (row, crc)
        self._count += len(records)
        self._map = np.memmap(self._vectors, self.dtype, "r", shape=(self._count, self.dim))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _append(path: Path, at: int, data: bytes) -> None:
    """Write at an offset and cut what lies behind: the leftovers of a writer that died."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(at)
        file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
