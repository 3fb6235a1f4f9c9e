"""The one writer of files: whole or not at all, and a full or read-only disk is told in one line.

    write_text(folder / "summary.json", text, "the summary")
    with replaced_file(path, "the bag file") as partial: ...            # the file appears only when it is complete
    append_rows(folder / "metrics.jsonl", rows, "metrics")
    with storage_errors(checkpoint, "the checkpoint"): trainer.save_model(checkpoint)

A file that is replaced is written beside its place, flushed to the disk, and renamed. So a reader, and a machine that
loses power, sees the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlcap.errors import StorageError
from rlcap.io.json_values import nan_to_null

_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "the permission is denied",
    errno.EPERM: "the operation is not permitted",
    errno.ENOTDIR: "a part of the path is a file and not a folder",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an input/output error",
    errno.EFBIG: "the file would be larger than is allowed",
}
"""Error numbers for which the place of the file is the cause, and not the program → what the user is told."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LITTLE_ROOM = 32 * 2**20
"""Free bytes below which a failed write of torch, which hides the error number, counts as a full disk."""


def write_text(path: str | os.PathLike, text: str, what: str = "the file") -> None:
    """Write a UTF-8 file as a whole or not at all; its folder is created where it does not exist.

    Args:
        path: The file.
        text: Its content.
        what: What is written, for the message of an error.

    Raises:
        StorageError: The file can't be written.
    """
    write_bytes(path, text.encode("utf-8"), what)


def write_bytes(path: str | os.PathLike, data: bytes, what: str = "the file") -> None:
    """Write a file as a whole or not at all; see `write_text`."""
    with replaced_file(path, what, len(data)) as partial:
        partial.write_bytes(data)


def write_json(path: str | os.PathLike, value: Any, what: str = "the file", **options: Any) -> None:
    """Write a value as JSON, with null for NaN, which JSON does not know; `options` are those of `json.dumps`. See `write_text`.

    Raises:
        StorageError: The file can't be written.
        ValueError: A number is infinite.
    """
    write_text(path, json.dumps(nan_to_null(value), allow_nan=False, **options) + "\n", what)


@contextmanager
def replaced_file(path: str | os.PathLike, what: str = "the file", size: int | None = None) -> Iterator[Path]:
    """Yield a path beside `path` to write to; at the end the file there is flushed to the disk and takes the place.

    Where the body fails, the partial file is removed and an existing file stays as it was.

    Args:
        path: The file that is replaced.
        what: What is written, for the message of an error.
        size: Bytes that are needed, where they are known.

    Raises:
        StorageError: The file can't be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    with storage_errors(path, what, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _flush(partial)
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush(path.parent)


def append_rows(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]], what: str = "a row") -> None:
    """Append rows to a JSON Lines file in one write.

    Where the last line of the file is incomplete, because a process was killed during its write, the rows begin on a new line.
    Where the write fails, the file is cut back to what it was.

    Raises:
        StorageError: The file can't be written.
    """
    data = "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8")
    # Without a buffer, because a buffer would be written once more when the file is closed after a failure.
    with storage_errors(path, what, len(data)), open(path, "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            data = data if file.read(1) == b"\n" else b"\n" + data
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            os.truncate(path, end)
            raise


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Flush every file below a folder, and the folders, to the disk."""
    for root, _, names in os.walk(os.fspath(folder)):
        for name in names:
            _flush(Path(root) / name)
        _flush(Path(root))


def file_checksum(path: str | os.PathLike) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        OSError: The file can't be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(path: str | os.PathLike, what: str = "the folder") -> Path:
    """Create a folder with its parents where it does not exist, and return its path.

    Raises:
        StorageError: It can't be created, for instance because a file has its name.
    """
    with storage_errors(path, what):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def storage_errors(path: str | os.PathLike, what: str, size: int | None = None) -> Iterator[None]:
    """Turn the failures of a write, by us or by a library, into a StorageError that names the place and the cause.

    torch and safetensors report a failed write as RuntimeError or as an error of their own, whose text may name the error number.

    Args:
        path: The file or folder that is written.
        what: What is written, such as "the checkpoint of step 40".
        size: Bytes that are needed, where they are known.

    Raises:
        StorageError: In place of the failures that the place of the file causes. Other errors pass unchanged.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise _storage_error(path, what, _STORAGE[error.errno], size, error.errno in _FULL) from error
    except Exception as error:
        number = _number_of(error, path)
        if number not in _STORAGE:
            raise
        raise _storage_error(path, what, _STORAGE[number], size, number in _FULL) from error


def _number_of(error: Exception, path: str | os.PathLike) -> int:
    """Return the error number behind a failed write of safetensors or of torch's zip writer; 0 for any other error.

    safetensors writes "os error 28" into its text. torch names no number, so that the room at the place decides.
    """
    match = re.search(r"os error (\d+)", str(error)) if type(error).__name__ == "SafetensorError" else None
    if match is not None:
        return int(match[1])
    if isinstance(error, RuntimeError) and any(s in str(error) for s in ("PytorchStreamWriter", "unexpected pos")):
        return errno.ENOSPC if (_free_bytes(path) or 0) < _LITTLE_ROOM else errno.EFBIG
    return 0


def _storage_error(path: str | os.PathLike, what: str, cause: str, size: int | None, is_full: bool) -> StorageError:
    text = f"{what} can't be written to {os.fspath(path)}: {cause}"
    if is_full:
        free = _free_bytes(path)
        needed = f"{size:,} bytes are needed and " if size else ""
        text += f" ({needed}{free or 0:,} bytes are free); make room, or choose a folder on another disk"
    else:
        text += "; choose another folder, or change its permissions"
    return StorageError(text)


def _free_bytes(path: str | os.PathLike) -> int | None:
    """Return the free bytes at the nearest existing folder of a path."""
    for folder in (Path(path).absolute(), *Path(path).absolute().parents):
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk; a file system that can't do that for a folder is left alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
