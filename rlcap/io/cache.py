"""Where caches lie, and keys by content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return `$RLCAP_CACHE`, or ~/.cache/rlcap."""
    return Path(os.environ.get("RLCAP_CACHE") or Path.home() / ".cache" / "rlcap")


def content_hash(**parts: Any) -> str:
    """Return the sha256 (hexadecimal) of named JSON-able parts.

    Unlike `hash()` it is the same in every process. Half a surrogate pair is allowed in texts.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
