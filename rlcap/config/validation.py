"""Turns pydantic's validation errors into messages that name the key, the value seen and what to write instead."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return "did you mean x? " for the known name that is most alike, or an empty string."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {prefix}{near[0]}? " if near else ""


def describe_problems(error: ValidationError, model: type[BaseModel], root: str = "") -> str:
    """Return one line for each problem of a value that a model refused.

    Args:
        error: pydantic's error.
        model: the model that refused the value; its fields are suggested for unknown keys.
        root: dotted path of the value, put before each key.
    """
    lines = []
    for problem in error.errors(include_url=False):
        is_unknown_key = problem["type"] == "extra_forbidden"  # then the last part is the user's own
        last = len(problem["loc"]) - 1
        path = [
            str(part)
            for i, part in enumerate(problem["loc"])
            if (is_unknown_key and i == last)
            or not (str(part) == "[key]" or str(part).startswith(("function-", "tagged-")))
        ]
        key = ".".join([*([root] if root else []), *path]) or "the configuration"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            hint = did_you_mean(path[-1], known, prefix=key.removesuffix(path[-1]))
            lines.append(f"unknown key {key}; {hint}known: {', '.join(known)}")
        elif problem["type"] == "literal_error":
            choices = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
            hint = did_you_mean(str(problem["input"]), choices)
            what = f"unknown key {key};" if "[key]" in problem["loc"] else f"{key} is {problem['input']!r:.80};"
            lines.append(f"{what} {hint}known: {', '.join(choices)}")
        elif problem["type"] == "value_error":
            message = str(problem["ctx"]["error"])
            named = not (path or root) or message.startswith(f"{key}.")
            lines.append(message if named else f"{key}: {message}")
        elif problem["type"] in ("dict_type", "model_type", "model_attributes_type"):
            lines.append(f"{key} must be a mapping, got {problem['input']!r:.80}")
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            lines.append(f"{key}: {message}, got {problem['input']!r:.80}")
    return "\n".join(dict.fromkeys(lines))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the model at a dotted path below `model`, or an empty list."""
    current: Any = model
    for part in path:
        if _is_model(current):
            field = current.model_fields.get(part)
            current = field.annotation if field is not None else None
        else:  # a mapping by name: every name leads to the type of its values
            current = next((typing.get_args(kind)[1] for kind in _alternatives(current) if _is_mapping(kind)), None)
        if current is None:
            return []
        current = next((kind for kind in _alternatives(current) if _is_model(kind) or _is_mapping(kind)), None)
    return sorted(current.model_fields) if _is_model(current) else []


def _alternatives(annotation: Any) -> list[Any]:
    """Return an annotation and, of a union, its members."""
    return [annotation, *(typing.get_args(annotation) if not _is_mapping(annotation) else ())]


def _is_mapping(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
