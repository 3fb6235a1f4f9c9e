"""A cache of vectors on disk, keyed by content and read through a memory map.

A frozen model always embeds an image as the same vector. The vector is therefore computed once per (model, image bytes)
and shared by mining, training, evaluation and every process of a run.

    cache = EmbeddingCache(cache_folder() / "embeddings", "ViT-B-32 laion2b", dim=512)
    found, vectors = cache.get(keys)           # (N,) bool, (N, 512); missing rows are zeros
    cache.put(missing_keys, new_vectors)

The cache consists of two files that only grow: `vectors` with rows of numbers, and `keys` with one record per row
(sha256 of the key, crc32 of the row). A row exists as soon as its record is complete, and the record is written only
after the row has reached the disk. Data after the last complete record, which a crash may leave, is ignored by readers
and removed by the next writer. A row that fails its checksum counts as missing. Any number of processes may read and
write: a file lock serialises the writers, and readers need no lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rlcap.io.atomic import make_folder, storage_errors, write_json
from rlcap.io.text import read_json

_RECORD = np.dtype([("key", "S32"), ("crc", "<u4")])
_KEY_BYTES = 32


class EmbeddingCache:
    """A cache of vectors of `dim` numbers under string keys, for the model called `name`.

    Args:
        folder: The parent folder; each (name, dim, dtype) has its own folder inside.
        name: Everything that decides the vectors besides the key: model, weights, preprocessing.
        dim: Length of a vector.
        dtype: `float32`, or `float16`, which needs half the disk space and has a relative error of 5e-4.

    Raises:
        ValueError: The dtype is another one, or the folder belongs to another cache.
    """

    def __init__(self, folder: str | os.PathLike, name: str, dim: int, dtype: str = "float32") -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"EmbeddingCache dtype must be 'float32' or 'float16', got {dtype!r}")
        self.name, self.dim, self.dtype = name, dim, np.dtype(dtype)
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.")
        digest = hashlib.sha256(f"{name}\0{dim}\0{dtype}".encode()).hexdigest()[:12]
        self.folder = Path(folder) / f"{slug}-{digest}"
        make_folder(self.folder, "the cache of embeddings")
        self._keys, self._vectors = self.folder / "keys", self.folder / "vectors"
        self._rows: dict[bytes, tuple[int, int]] = {}  # key digest → (row, crc); a later record replaces an earlier one
        self._count = 0  # rows of the files that _rows covers
        self._map = np.empty((0, dim), self.dtype)
        self._check_description()
        self._refresh()

    def __len__(self) -> int:
        self._refresh()
        return len(self._rows)

    def get(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Look up N keys.

        Returns:
            Whether each key was found, (N,) bool, and the vectors, (N, dim) in the cache's dtype, as a copy; a missing
            vector is zero.
        """
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
        """Store vectors (N, dim) under N keys; a key that is already stored keeps its vector.

        Raises:
            ValueError: The shape does not fit, or a number is not finite.
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
            stored, _ = self.get(keys)
            new = {
                _digest(key): row for key, row, is_stored in zip(keys, vectors, stored, strict=True) if not is_stored
            }
            if not new:
                return
            rows = [np.ascontiguousarray(row).tobytes() for row in new.values()]
            records = np.array([(digest, zlib.crc32(row)) for digest, row in zip(new, rows, strict=True)], _RECORD)
            self._refresh()
            row_bytes = self.dim * self.dtype.itemsize
            with storage_errors(self.folder, "the cache of embeddings", len(new) * row_bytes):
                _append(self._vectors, self._count * row_bytes, b"".join(rows))
                _append(self._keys, self._count * _RECORD.itemsize, records.tobytes())
            self._refresh()

    def _check_description(self) -> None:
        """Write what the folder contains, or compare it with what an earlier process wrote."""
        about = {"schema": 1, "name": self.name, "dim": self.dim, "dtype": self.dtype.name}
        path = self.folder / "about.json"
        if path.exists():
            if (stored := read_json(path, "the description of the cache")) != about:
                raise ValueError(f"{self.folder} holds {stored}, not {about}; delete the folder to rebuild it")
            return
        write_json(path, about, "the cache of embeddings")

    def _refresh(self) -> None:
        """Read the records that this or another process has added since the last call."""
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


def _append(path: Path, offset: int, data: bytes) -> None:
    """Write data at an offset, after cutting off what a killed writer may have left there."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
