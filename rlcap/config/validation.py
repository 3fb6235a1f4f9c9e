"""Turns pydantic's validation errors into messages that name the key, the value seen and what to write instead."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "did you mean 'x'? " for the known name that is most alike, or an empty string."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f"did you mean {near[0]!r}? " if near else ""


def describe_problems(error: ValidationError, model: type[BaseModel], root: str = "") -> str:
    """Return one line for each problem of a value that a model refused.

    Args:
        error: pydantic's error.
        model: the model that refused the value; its fields are suggested for unknown keys.
        root: dotted path of the value, put before each key.
    """
    lines = []
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tagged-"))]
        key = ".".join([*([root] if root else []), *path]) or "the configuration"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            hint = did_you_mean(path[-1], known)
            lines.append(f"unknown key {key}; {hint}known: {', '.join(known)}")
        elif problem["type"] == "value_error":
            lines.append(f"{key}: {problem['ctx']['error']}" if path or root else str(problem["ctx"]["error"]))
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            lines.append(f"{key}: {message}, got {problem['input']!r:.80}")
    return "\n".join(dict.fromkeys(lines))


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the model at a dotted path below `model`, or an empty list."""
    current: Any = model
    for part in path:
        field = current.model_fields.get(part) if _is_model(current) else None
        if field is None:
            return []
        candidates = [field.annotation, *typing.get_args(field.annotation)]
        current = next((candidate for candidate in candidates if _is_model(candidate)), None)
        if current is None:
            return []
    return sorted(current.model_fields)


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
