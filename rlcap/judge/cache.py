"""A cache of judges' replies: one sqlite file, shared by processes, keyed by content.

A key is the sha256 of everything that a reply depends on. So a changed prompt file, model or caption never gets a stale reply, and a run
that is resumed or repeated pays for nothing twice.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.errors import ConfigError


def _storable(reply: str) -> str:
    return reply.encode("utf-8", "replace").decode()


def _open(path: str, patience: float = 30.0) -> sqlite3.Connection:
    """Open a connection that waits `patience` seconds for other writers."""
    connection = sqlite3.connect(path, timeout=patience)
    until = time.monotonic() + patience
    while True:
        try:  # sqlite itself does not wait where two processes switch a new file to the write-ahead log at the same time
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
            return connection
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                connection.close()
                raise
            time.sleep(0.01)


class ReplyCache:
    """Maps keys to replies, in one sqlite file with a write-ahead log: many readers beside one writer.

    A connection belongs to one process and one thread. Each gets its own, also after a fork.

    Args:
        path: the file; `:memory:` keeps the replies in this object alone.

    Raises:
        ConfigError: for a path that is none, or a file that can't be used.
    """

    def __init__(self, path: str | Path) -> None:
        if not isinstance(path, str | Path):  # on a command line YAML reads cache=:memory: as a mapping
            raise ConfigError(f"cache must be a path or ':memory:' in quotes, got {path!r}")
        self.path = str(path)
        self._local = threading.local()
        self._memory: dict[str, str] | None = {} if self.path == ":memory:" else None
        if self._memory is None:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the replies of those keys that are known."""
        if self._memory is not None:
            return {key: self._memory[key] for key in keys if key in self._memory}
        found: dict[str, str] = {}
        keys = list(keys)
        for start in range(0, len(keys), 500):  # sqlite limits the number of placeholders
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            found |= dict(self._connection().execute(f"SELECT key, reply FROM replies WHERE key IN ({marks})", part))
        return found

    def put(self, key: str, reply: str) -> None:
        """Store a reply. Where two processes got a reply to the same request, the first one stays."""
        self.put_all({key: reply})

    def put_all(self, replies: Mapping[str, str]) -> None:
        """Store replies by key, all of them or none; see `put`."""
        if self._memory is not None:
            for key, reply in replies.items():
                self._memory.setdefault(key, reply)
            return
        rows = [(key, _storable(reply)) for key, reply in replies.items()]
        try:
            with self._connection() as connection:
                connection.executemany("INSERT OR IGNORE INTO replies (key, reply) VALUES (?, ?)", rows)
        except sqlite3.Error as error:  # such as a full disk
            raise self._unusable(error) from error

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "process", None) != os.getpid():
            try:
                self._local.connection = _open(self.path)
            except sqlite3.Error as error:
                raise self._unusable(error) from error
            self._local.process = os.getpid()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(f"cache {self.path} can't be used ({error}): delete the file, or name another by `cache`")

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy in another process opens its own connections
        return type(self), (self.path,)
