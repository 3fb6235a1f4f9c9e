"""Checks of the keys that speak of controls: `data.control`, `data.control_phrases`, `evaluation.control` and `generation.controls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import AfterValidator

from rlcap.types import Control

NAMES = tuple(one.name for one in fields(Control))
"""The controls."""
VALUE = "{value}"
"""The field of a phrase in which the value of the control stands."""


def check_control(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a control if they are valid.

    Raises:
        ValueError: A key is unknown, or a value is of the wrong type or outside its range.
    """
    Control.parse(values)
    return values


def check_phrases(phrases: dict[str, Any]) -> dict[str, Any]:
    """Return the words of controls if they are valid.

    Raises:
        ValueError: A key is no control, or its words do not depend on its value.
    """
    for name, phrase in phrases.items():
        _check_name(name)
        if isinstance(phrase, Mapping):
            if not phrase or not all(isinstance(text, str) and text.strip() for text in phrase.values()):
                raise ValueError(f"{name}: a mapping from values to texts that are not empty is needed, got {phrase!r}")
        elif not isinstance(phrase, str) or VALUE not in phrase:
            raise ValueError(
                f"{name}: write a text with {VALUE}, or a mapping from values to texts; {phrase!r} says the same of every value"
            )
    return phrases


def check_distributions(distributions: dict[str, Any]) -> dict[str, Any]:
    """Return the distributions of controls if they are valid.

    Raises:
        ValueError: A key is no control, or its distribution is malformed.
    """
    for name, wanted in distributions.items():
        _check_name(name)
        tabulate(name, wanted)
    return distributions


def tabulate(name: str, wanted: Any) -> list[tuple[Any, float]]:
    """Return the values of a distribution with their weights, all above 0.

    Args:
        name: The control.
        wanted: A list of values with equal shares, a mapping from values to weights, or {uniform: [lowest, highest]} for whole numbers. The
            value None stands for no demand.

    Raises:
        ValueError: The distribution is malformed, or a value is not one that the control can have.
    """
    if isinstance(wanted, Mapping) and set(wanted) == {"uniform"}:
        ends = wanted["uniform"]
        is_range = isinstance(ends, list | tuple) and len(ends) == 2 and all(type(end) is int for end in ends)
        if not is_range or ends[0] > ends[1]:
            raise ValueError(f"{name}.uniform must be [lowest, highest], two whole numbers, got {ends!r}")
        weighted = [(value, 1.0) for value in range(ends[0], ends[1] + 1)]
    elif isinstance(wanted, Mapping):
        weighted = list(wanted.items())
    elif isinstance(wanted, list | tuple):
        weighted = [(value, 1.0) for value in wanted]
    else:
        raise ValueError(
            f"{name}: write a list of values, a mapping from values to weights, or {{uniform: [lowest, highest]}}, got {wanted!r}"
        )
    for value, weight in weighted:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise ValueError(f"{name}: the weight of {value!r} must be a number of 0 or more, got {weight!r}")
    kept = [(getattr(Control.parse({name: value}), name), float(weight)) for value, weight in weighted if weight > 0]
    if not kept:
        raise ValueError(f"{name} has no value with a weight above 0, got {wanted!r}")
    return kept


def check_format_shares(shares: dict[str, Any]) -> dict[str, Any]:
    """Return the mixing ratio of caption formats if it is valid.

    Raises:
        ValueError: A key is no format, or a share is no number of 0 or more.
    """
    if shares:
        tabulate("format", shares)
    return shares


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{name} is no control; known are {', '.join(NAMES)}")


ControlValues = Annotated[dict[str, Any], AfterValidator(check_control)]
"""The demands of a control: {length: 40, style: plain}."""
ControlPhrases = Annotated[dict[str, Any], AfterValidator(check_phrases)]
"""Control → its words."""
FormatShares = Annotated[dict[str, Any], AfterValidator(check_format_shares)]
"""Caption format → its share; the shares need not sum to 1."""
ControlDistributions = Annotated[dict[str, Any], AfterValidator(check_distributions)]
"""Control → its distribution; see `tabulate`."""
