"""Finds the models of the lab: the address `lab:captioner` stands for a folder inside the package."""

from __future__ import annotations

from pathlib import Path

from rlcap.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
NAMES = ("captioner", "adapter", "retriever", "judge-retriever", "nli", "grammar", "web-captioner", "web-adapter")
"""Names of the models of the lab."""


def asset_folder(name: str) -> Path:
    """Return the folder of a model of the lab. `rlcap.io.addresses` uses it for addresses that begin with `lab:`.

    Args:
        name: One of `NAMES`.

    Raises:
        ConfigError: The name is unknown, or the model is not built.
    """
    folder = ASSETS / name
    if name not in NAMES:
        raise ConfigError(f"unknown lab asset {name!r}; known: {', '.join(NAMES)}")
    if not folder.is_dir():
        raise ConfigError(f"lab asset {name!r} is not built; run `rlcap lab build`")
    return folder
