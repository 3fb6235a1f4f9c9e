"""An advisory lock on a folder: one process at a time, released by the end of the process, whatever ends it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import warnings
from pathlib import Path
from typing import IO

from rlcap.errors import LockedError
from rlcap.io.atomic import storage_errors

LOCK = ".lock"
"""Name of the file in a locked folder that says who holds it."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Error numbers of file systems that know no locks, such as Lustre without its option `flock`."""


class FolderLock:
    """Holds the lock of a folder from its construction until `release` or the end of the process.

    The operating system keeps the lock with the open file, so that no stale lock remains after a kill. The file's text only tells the
    next process who holds it.

    Args:
        folder: The folder, which must exist.
        what: What the folder is, for the message, such as "the run".

    Some network file systems know no locks. A warning then says that a second process would not be noticed.

    Raises:
        LockedError: Another process holds the lock; the message names its process number and host.
        StorageError: The lock file can't be written.
    """

    def __init__(self, folder: Path, what: str = "the folder") -> None:
        path = folder / LOCK
        with storage_errors(path, f"the lock of {what}"):
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 the open file is the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_holder(file)
            file.close()
            raise LockedError(
                f"{what} in {folder} is in use by {holder}; wait for its end, stop it, or choose another output_dir"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                file.close()
                raise
            warnings.warn(
                f"{folder} lies on a file system without locks ({error.strerror}): start no second process there, since it "
                "would not be refused",
                stacklevel=2,
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        self._file: IO[str] | None = file

    def release(self) -> None:
        """Give the lock back. A second call has no effect."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _read_holder(file: IO[str]) -> str:
    """Return who holds a lock, in words."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
