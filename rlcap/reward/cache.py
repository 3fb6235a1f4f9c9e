"""A cache of judges' replies: sqlite, shared by processes, keyed by content.

Keys are sha256 over everything that a reply depends on, so that a changed prompt file, model or caption never meets a
stale reply, and a run that is resumed or repeated pays nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.types import ConfigError


def content_hash(**parts: Any) -> str:
    """sha256 hex of named JSON-able parts; unlike `hash()` the same in every process. Half a surrogate pair is let through."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _storable(reply: str) -> str:
    return reply.encode("utf-8", "replace").decode()


def default_folder() -> Path:
    """`$RLCAP_CACHE`, or ~/.cache/rlcap."""
    return Path(os.environ.get("RLCAP_CACHE") or Path.home() / ".cache" / "rlcap")


class ReplyCache:
    """key → text, in one sqlite file (write-ahead log: many readers beside one writer). `:memory:` keeps it in RAM.

    Connections belong to one process and thread: each gets its own, also after a fork. ConfigError for what is no path.
    """

    def __init__(self, path: str | Path) -> None:
        if not isinstance(path, str | Path):  # on a command line YAML reads cache=:memory: as a mapping
            raise ConfigError(f"cache must be a path or ':memory:' in quotes, got {path!r}")
        self.path = str(path)
        self._local = threading.local()
        self._memory: dict[str, str] | None = {} if self.path == ":memory:" else None
        if self._memory is None:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """The known ones among the keys."""
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
        """Remember a reply; of two processes that judged the same, the first one's stays."""
        if self._memory is not None:
            self._memory.setdefault(key, reply)
            return
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO replies (key, reply) VALUES (?, ?)", (key, _storable(reply)))

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "process", None) != os.getpid():
            connection = sqlite3.connect(self.path, timeout=30)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
            self._local.connection, self._local.process = connection, os.getpid()
        return self._local.connection

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])
