"""Keys and passwords in a configuration, which must not reach a file, a report or a tracker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""What stands in place of a secret."""
_SECRET_KEY = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|key|token|access[_-]?token|secret|password|passwd|authorization|bearer)s?$",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(^|[_-])(max|min|num|stop|image|pad|eos|bos)[_-]|_env$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_LOOKS_SECRET = re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai)[-_][A-Za-z0-9_-]{8,}|\bAIza[\w-]{20,}")


def redact_values(value: Any, key: str = "") -> Any:
    """Return a configuration value in which secrets are replaced by `HIDDEN`.

    A secret is the value of a key such as `api_key`, the name and password in an address, or a text that looks like a key.
    `max_tokens` and `api_key_env` are none.

    Args:
        value: Any value of a configuration.
        key: The key under which it stands.
    """
    if isinstance(value, Mapping):
        return {name: redact_values(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if _SECRET_KEY.search(key) and not _NO_SECRET.search(key):
        return HIDDEN
    return _LOOKS_SECRET.sub(HIDDEN, _CREDENTIALS.sub(f"{HIDDEN}@", value))
