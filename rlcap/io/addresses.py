"""Addresses of models: `scheme:name` stands for a folder that a package brings.

The embedded lab's models are `lab:captioner`, `lab:nli` and so on. Another package adds a scheme of its own by an entry point:

    [project.entry-points."rlcap.addresses"]
    mine = "my_package.models:folder_of"        # from the part behind `mine:` to a folder

Every loader of models resolves the name that it is given here, and nowhere else.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable

GROUP = "rlcap.addresses"
"""Entry-point group of the schemes."""
_OPEN_CLIP = "local-dir:"


def resolve_address(name: str) -> str:
    """Return the folder of an address, `local-dir:FOLDER` for `local-dir:ADDRESS`, and any other name as it is.

    Raises:
        ConfigError: by the scheme, for a name that it does not know.
    """
    prefix = _OPEN_CLIP if name.startswith(_OPEN_CLIP) else ""
    scheme, colon, rest = name.removeprefix(prefix).partition(":")
    if not colon or scheme not in _schemes():
        return name
    return prefix + str(_resolver(scheme)(rest))


@functools.cache
def _schemes() -> frozenset[str]:
    return frozenset(importlib.metadata.entry_points(group=GROUP).names)


@functools.cache
def _resolver(scheme: str) -> Callable[[str], object]:
    (entry, *_others) = importlib.metadata.entry_points(group=GROUP, name=scheme)
    resolver: Callable[[str], object] = entry.load()
    return resolver
