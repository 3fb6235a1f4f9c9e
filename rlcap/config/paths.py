"""Relative paths in a configuration, which would mean something else in another working folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PREFIXES = ("local-dir:",)


def make_paths_absolute(value: Any) -> Any:
    """Return a configuration value in which the relative paths of existing files and folders are absolute.

    A text counts as a path if it contains a slash or has a suffix, and exists. So a hub name stays a hub name unless a folder of that
    name exists, which transformers would load as well. In `file.py:Class` and `local-dir:FOLDER` only the path changes.

    Args:
        value: Any value of a configuration.
    """
    if isinstance(value, Mapping):
        return {name: make_paths_absolute(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [make_paths_absolute(item) for item in value]
    if not isinstance(value, str):
        return value
    prefix = next((start for start in _PREFIXES if value.startswith(start)), "")
    path, colon, name = value.removeprefix(prefix).partition(".py:")
    path += ".py" if colon else ""
    return f"{prefix}{_absolute(path)}" + (f":{name}" if colon else "")


def _absolute(path: str) -> str:
    looks_like_path = 0 < len(path) < 4096 and "\n" not in path and (os.sep in path or Path(path).suffix)
    try:
        exists = bool(looks_like_path) and Path(path).expanduser().exists()
    except (OSError, ValueError):  # too long, or a NUL character
        exists = False
    return os.path.abspath(os.path.expanduser(path)) if exists else path
