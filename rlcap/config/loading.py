"""Configuration files: YAML and dotted overrides → a dataclass, every value held against its field's type.

A file says only what differs from the defaults; an override says one value (`train.steps=200`) and is read as YAML. A key
that does not exist is refused with the nearest one that does.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rlcap.errors import ConfigError


def load_config(
    kind: type, file: str | Path | None = None, overrides: Sequence[str] = (), defaults: str | Path | None = None
):
    """A checked config of `kind` from `defaults` (YAML), then `file` (YAML), then `overrides` (`dotted.key=value`).

    An override may carry leading dashes (`--train.steps=5`), as W&B's sweep agents write them. Raises ConfigError on
    unreadable YAML, unknown keys and values of the wrong type.
    """
    values: dict[str, Any] = {}
    for path in (defaults, file):
        if path is not None:
            values = _merge(values, _read(Path(path)), kind)
    for override in overrides:
        key, separator, text = override.lstrip("-").partition("=")
        if not separator:
            raise ConfigError(f"override {override!r}: write key=value, for instance train.steps=100")
        try:
            value: Any = yaml.safe_load(text) if text else None
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: {text!r} is not YAML: {error}") from error
        parts = key.split(".")
        known = list(values.get("mix") or {})
        if parts[0] == "mix" and len(parts) == 2 and value is None and parts[1] not in known:
            near = difflib.get_close_matches(parts[1], known, 1)
            hint = f"did you mean mix.{near[0]}?" if near else f"the mix has {', '.join(known) or 'none'}"
            raise ConfigError(f"override {override!r}: there is no reward {parts[1]!r} to leave out; {hint}")
        if isinstance(value, dict) and not text.lstrip().startswith("{"):
            value = text  # `:memory:` and `a: b` are texts; a mapping is written {a: b}
        for part in reversed(parts):
            value = {part: value}
        values = _merge(values, value, kind)
    return _build(kind, values, "")


def dump(config: Any) -> str:
    """The config as YAML, every value written out; `load_config` reads it back."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no config file {path}; those of the project are in recipes/configs/")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, got {type(data).__name__}")
    return data


def _merge(old: Mapping[str, Any], new: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """`new` over `old`. Mappings merge key by key, except `curriculum`, whose forms exclude each other, and the
    parameters of a judge's backend, which are not those of a backend of another type."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        other = both and key == "backend" and value.get("type", before.get("type")) != before.get("type")
        merged[key] = _merge(before, value, None) if both and not other and key != "curriculum" else value
    return merged


def _build(kind: Any, values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'} must be a mapping, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), 1)
            hint = f"did you mean {path}{near[0]}? " if near else ""
            raise ConfigError(f"unknown key {path}{key}; {hint}known: {', '.join(sorted(known))}")
    default = kind()
    built: dict[str, Any] = {}
    for name in known:
        hint, current = hints[name], getattr(default, name)
        if dataclasses.is_dataclass(hint):
            given = values.get(name) or {}
            if not isinstance(given, Mapping):
                raise ConfigError(f"{path}{name} must be a mapping, got {given!r}; write {path}{name}.<key>=<value>")
            merged = {**{f.name: getattr(current, f.name) for f in dataclasses.fields(hint)}, **given}
            built[name] = _build(hint, merged, f"{path}{name}.")
        elif name in values:
            built[name] = _typed(values[name], hint, f"{path}{name}")
        else:
            built[name] = current
    return kind(**built)


def _typed(value: Any, hint: Any, path: str) -> Any:
    if hint is Any:
        return value
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for choice in choices:
        origin = typing.get_origin(choice) or choice
        if choice is type(None) and value is None:
            return None
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if choice is float and isinstance(value, str):
            # YAML reads 2e-3 (no dot) as text.
            try:
                return float(value)
            except ValueError:
                continue
        if origin is int and isinstance(value, bool):
            continue
        if origin in (int, str, bool, list, dict) and isinstance(value, origin):
            return value
        if origin is list and isinstance(value, str):
            return [value]  # one name where several may stand: report_to=wandb
    wanted = " or ".join("null" if c is type(None) else getattr(c, "__name__", str(c)) for c in choices)
    raise ConfigError(f"{path} must be {wanted}, got {value!r}")
