"""Where the lab's models are: `lab:captioner` stands for a folder inside the package."""

from __future__ import annotations

from pathlib import Path

from rlcap.errors import ConfigError

ASSETS = Path(__file__).parent / "assets"
NAMES = ("captioner", "adapter", "retriever", "judge-retriever", "nli", "grammar")
"""The lab's models."""


def asset_folder(name: str) -> Path:
    """Return the folder of one of the lab's models. This is the scheme `lab:` of `rlcap.io.addresses`.

    Raises:
        ConfigError: for a name that is none of the lab's, or a model that is not built.
    """
    folder = ASSETS / name
    if name not in NAMES:
        raise ConfigError(f"unknown lab asset {name!r}; known: {', '.join(NAMES)}")
    if not folder.is_dir():
        raise ConfigError(f"lab asset {name!r} is not built; run `rlcap lab build`")
    return folder
