"""The schema of a configuration as text: every key with its type, its range, its default and its meaning."""

from __future__ import annotations

import json
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from rlcap.config.section import Section


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration."""

    path: str
    """Dotted path, such as train.steps."""
    type: str
    """Type with its range, such as int ≥ 1."""
    default: str
    """Default as it is written in YAML."""
    meaning: str
    """The sentence of the schema."""


def keys(kind: type[Section], prefix: str = "") -> Iterator[Key]:
    """Yield every key of a configuration, those of sections after each other."""
    for name, field in kind.model_fields.items():
        section = _section(field)
        if section is not None:
            yield from keys(section, f"{prefix}{name}.")
        else:
            meaning = " ".join((field.description or "").split())
            yield Key(f"{prefix}{name}", _type(field), _default(field), meaning)


def to_text(kind: type[Section]) -> str:
    """Return all keys for a terminal, a paragraph each."""
    lines = [" ".join((kind.__doc__ or "").split()), ""]
    for key in keys(kind):
        lines.append(f"{key.path}: {key.default}    ({key.type})")
        lines += textwrap.wrap(key.meaning, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def to_markdown(kinds: Mapping[str, type[Section]]) -> str:
    """Return a table of each recipe's keys. Later recipes show only the keys in which they differ from the first."""
    parts: list[str] = []
    first: dict[str, Key] = {}
    for recipe, kind in kinds.items():
        found = {key.path: key for key in keys(kind)}
        shown = [key for key in found.values() if first.get(key.path) != key]
        first = first or found
        parts += [f"## {recipe}", "", " ".join((kind.__doc__ or "").split()), ""]
        if len(shown) < len(found):
            parts += ["Keys that differ from those of grpo:", ""]
        parts += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        parts += [
            "| "
            + " | ".join(cell.replace("|", "\\|") for cell in (f"`{k.path}`", k.type, f"`{k.default}`", k.meaning))
            + " |"
            for k in shown
        ]
        parts.append("")
    return "\n".join(parts)


def _section(field: FieldInfo) -> type[Section] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else f"{value:g}"


def _type(field: FieldInfo) -> str:
    bounds = [text for constraint in field.metadata if (text := _bound(constraint))]
    return " ".join([_name(field.annotation), *bounds])


def _bound(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(f"{sign} {getattr(constraint, name)}" for name, sign in signs.items() if hasattr(constraint, name))


def _name(annotation: Any) -> str:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(annotation) is typing.Annotated:
        bounds = [
            text
            for extra in arguments[1:]
            for text in [_bound(extra), *map(_bound, getattr(extra, "metadata", ()))]
            if text
        ]
        return " ".join([_name(arguments[0]), *bounds])
    if annotation is type(None):
        return "null"
    if arguments and typing.get_origin(annotation) in (list, dict):
        kind = {list: "list", dict: "mapping"}[typing.get_origin(annotation)]
        return f"{kind} of {_name(arguments[-1])}"
    if arguments:
        return " or ".join(map(_name, arguments))
    return {"str": "text", "bool": "true or false", "dict": "mapping", "Any": "anything"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )
