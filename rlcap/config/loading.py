"""Configuration files: YAML and dotted overrides become a checked configuration.

A file says only what differs from the defaults, or from the file that it names by `extends`. An override sets one value (`train.steps=200`) and is read as YAML. A key that does not
exist is refused with the nearest one that does, and all problems are reported at once.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rlcap.config.paths import make_paths_absolute
from rlcap.config.redaction import redact_values
from rlcap.config.section import Section
from rlcap.config.validation import did_you_mean
from rlcap.config.yaml_text import parse_yaml
from rlcap.errors import ConfigError
from rlcap.io.text import read_text

Config = TypeVar("Config", bound=Section)


def load_config(
    kind: type[Config],
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    defaults: str | Path | None = None,
) -> Config:
    """Build a configuration from `defaults` (YAML), then `file` (YAML), then `overrides` (`dotted.key=value`).

    Args:
        kind: the class of the configuration, such as `rlcap.config.schema.GRPOConfig`.
        file: YAML file.
        overrides: single values. They may carry leading dashes (`--train.steps=5`), as W&B's sweep agents write them.
        defaults: YAML file below `file`.

    Raises:
        ConfigError: for YAML that can't be read, unknown keys, values of the wrong type or range, and rules that span keys.
    """
    values: dict[str, Any] = {}
    for path in (defaults, file):
        if path is not None:
            values = _merge(values, _read_with_base(Path(path)))
    for override in overrides:
        values = _merge(values, _parse_override(override, values))
    return kind.parse(_without_empty_sections(values, kind))


def dump(config: Section) -> str:
    """Return a configuration as YAML with every value written out. `load_config` reads it back.

    Secrets are redacted, and relative paths become absolute, so that the file works from any folder.
    """
    values = make_paths_absolute(redact_values(config.model_dump(mode="python")))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _parse_override(override: str, values: Mapping[str, Any]) -> dict[str, Any]:
    key, separator, text = override.lstrip("-").partition("=")
    if not separator:
        raise ConfigError(f"override {override!r}: write key=value, for instance train.steps=100")
    value: Any = parse_yaml(text, f"override {override!r:.120}") if text else None
    parts = key.split(".")
    mix = values.get("mix")
    known = list(mix) if isinstance(mix, Mapping) else []
    if parts[0] == "mix" and len(parts) == 2 and value is None and parts[1] not in known:
        hint = did_you_mean(parts[1], known, "mix.") or f"the mix has {', '.join(known) or 'none'}"
        raise ConfigError(f"override {override!r}: there is no reward {parts[1]!r} to leave out; {hint}".rstrip())
    if isinstance(value, dict) and not text.lstrip().startswith("{"):
        value = text  # `:memory:` and `a: b` are texts; a mapping is written {a: b}
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _read_with_base(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the values of a file over those of the file that its key `extends` names, relative to its own folder."""
    chain = (*above, path.resolve())
    values = _read(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends must be the name of a YAML file, got {base!r}")
    below = path.parent / base
    if below.resolve() in chain:
        raise ConfigError(f"{path}: extends {base}, which extends this file in turn")
    if not below.is_file():
        raise ConfigError(f"{path}: extends {base}, but there is no file {below}")
    return _merge(_read_with_base(below, chain), values)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no config file {path}; those of the project are in recipes/configs/")
    data = parse_yaml(read_text(path, "config file", ConfigError), str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, got {type(data).__name__}")
    return data


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `new` over `old`, key by key.

    Two kinds of mappings are replaced as a whole: `curriculum`, whose forms exclude each other, and the parameters of a judge's backend
    where its type changes. Another data source drops the `options` of the source that it replaces, and another expert the `params` of the
    expert that it replaces.
    """
    merged = dict(old)
    if "source" in new and new["source"] != old.get("source"):
        merged.pop("options", None)
    if "expert" in new and new["expert"] != old.get("expert"):
        merged.pop("params", None)
    for key, value in new.items():
        before = merged.get(key)
        if (
            key == "curriculum"
            or not (isinstance(value, Mapping) and isinstance(before, Mapping))
            or (key == "backend" and value.get("type", before.get("type")) != before.get("type"))
        ):
            merged[key] = value
        else:
            merged[key] = _merge(before, value)
    return merged


def _without_empty_sections(values: Mapping[str, Any], kind: type[Section]) -> dict[str, Any]:
    """Leave out sections without a value: `train:` in a file where every line below it is a comment."""

    def is_section(name: str) -> bool:
        field = kind.model_fields.get(name)
        annotations = [field.annotation, *typing.get_args(field.annotation)] if field is not None else []
        return any(isinstance(one, type) and issubclass(one, Section) for one in annotations)

    return {name: value for name, value in values.items() if value is not None or not is_section(name)}
