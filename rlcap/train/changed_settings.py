"""What a resumed run is asked to do otherwise than the run that was started in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcap.config.loading import dump
from rlcap.config.section import Section
from rlcap.config.yaml_text import parse_yaml
from rlcap.io.text import read_text

OF_THE_SESSION = ("resume", "output_dir", "name", "report_to")
"""Keys that say where and how a session runs, and change no result."""


def describe_changes(before: Path, config: Section) -> list[str]:
    """Return a line for each setting that differs: `train.beta: 0.01 → 0.05`.

    Args:
        before: The `config.yaml` of the earlier session; where it does not exist, nothing is compared.
        config: The configuration of this session.

    Raises:
        InputError: The file is not readable as YAML.
    """
    if not before.is_file() or not before.stat().st_size:  # a start that was killed leaves an empty file
        return []
    old = dict(_flatten(parse_yaml(read_text(before, "config file"), str(before))))
    new = dict(_flatten(parse_yaml(dump(config), "the configuration")))
    return [
        f"{key}: {_show(old, key)} → {_show(new, key)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key) and key not in OF_THE_SESSION
    ]


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else str(name))
    elif not isinstance(value, Mapping):
        yield key, value


def _show(values: Mapping[str, Any], key: str) -> str:
    return f"{values[key]!s:.80}" if key in values else "nothing"
