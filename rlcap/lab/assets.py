"""Where the lab's models live: `lab:captioner` names a folder inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcap.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
NAMES = ("captioner", "adapter", "retriever", "judge-retriever", "nli", "grammar")
PREFIX = "lab:"


def resolve(name: str) -> str:
    """`lab:NAME` → the folder's path, `local-dir:lab:NAME` → `local-dir:PATH`; anything else is returned as it is.

    Raises ConfigError for an unknown or unbuilt asset.
    """
    schema = "local-dir:" if name.startswith("local-dir:") else ""
    rest = name.removeprefix(schema)
    if not rest.startswith(PREFIX):
        return name
    asset = rest.removeprefix(PREFIX)
    folder = ASSETS / asset
    if asset not in NAMES:
        raise ConfigError(f"unknown lab asset {asset!r}; known: {', '.join(NAMES)}")
    if not folder.is_dir():
        raise ConfigError(f"lab asset {asset!r} is not built; run `rlcap lab build`")
    return schema + str(folder)


def resolve_all(value: Any) -> Any:
    """`resolve` applied to every string inside nested mappings and lists (a mix's parameters)."""
    if isinstance(value, Mapping):
        return {key: resolve_all(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolve_all(inner) for inner in value]
    return resolve(value) if isinstance(value, str) else value
