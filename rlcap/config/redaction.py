"""Keys and passwords in a configuration, which must not reach a file, a report or a tracker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""What stands in place of a secret."""
_SECRET_KEY = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|key|token|access[_-]?token|secret|password|passwd|passphrase|authorization|auth|bearer|credential"
    r"|cookie)s?$",
    re.IGNORECASE,
)
_ALWAYS_SECRET = re.compile(
    r"(api[_-]?key|secret|password|passwd|passphrase|authorization|credential)s?$", re.IGNORECASE
)
"""Keys below which numbers and everything deeper are secret too. `limits.tokens` is a number and no secret."""
_NO_SECRET = re.compile(r"(^|[_-])(max|min|num|stop|image|pad|eos|bos)[_-]|_env$", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s]+@")  # up to the last @ of the authority: a password may hold one
_QUERY = re.compile(r"(?i)([?&][\w-]*(?:key|token|secret|password|signature|sig)=)[^&#\s'\"]+")
_LOOKS_SECRET = re.compile(
    r"\b(?:sk|pk|rk|hf|gsk|xai|nvapi|glpat|ghp|gho|ghs|github_pat)[-_][\w*-]{6,}|\bAIza[\w-]{20,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?"
)
"""The forms of well-known providers' keys, and JSON Web Tokens."""


def hide_credentials(address: str, instead: str = "") -> str:
    """Return a text whose addresses lost the name and password before their host; `instead` stands in their place."""
    return _CREDENTIALS.sub(instead, address)


def redact_text(text: str) -> str:
    """Return a text without credentials in addresses, secret parameters of addresses, and whatever looks like a key."""
    text = _QUERY.sub(rf"\g<1>{HIDDEN}", hide_credentials(text, f"{HIDDEN}@"))
    return _LOOKS_SECRET.sub(HIDDEN, text)


def redact_values(value: Any, key: str = "") -> Any:
    """Return a configuration value in which secrets are replaced by `HIDDEN`.

    A secret is the value of a key such as `api_key`, the name and password in an address, or a text that looks like a key.
    `max_tokens` and `api_key_env` are none.

    Args:
        value: Any value of a configuration.
        key: The key under which it stands.
    """
    is_secret = bool(_ALWAYS_SECRET.search(key)) and not _NO_SECRET.search(key)
    if isinstance(value, Mapping):
        return {
            name: redact_values(item, key if is_secret else _CAPITAL.sub("_", str(name)))
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_values(item, key) for item in value]
    if isinstance(value, str):
        return HIDDEN if _SECRET_KEY.search(key) and not _NO_SECRET.search(key) else redact_text(value)
    return HIDDEN if is_secret and value is not None and not isinstance(value, bool) else value
