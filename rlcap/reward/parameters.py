"""Checks of a reward's parameters: each error names one parameter, its value, and the rule that it breaks."""

from __future__ import annotations

from collections.abc import Iterable


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuse a value that is not one of the allowed ones.

    Raises:
        ValueError: "form must be mean or least, got 'sum'".
    """
    choices = list(allowed)
    if value not in choices:
        raise ValueError(f"{name} must be {_list(choices)}, got {value!r}")


def check_number(
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Refuse a number outside its range; NaN is outside every range.

    Args:
        name: the parameter.
        value: its value.
        low: smallest allowed value.
        high: largest allowed value.
        above: a value that must be exceeded.
        below: a value that must not be reached.

    Raises:
        ValueError: "unknown must be at least 0 and at most 1, got 2".
    """
    rules = [
        (f"at least {low}", low is None or value >= low),
        (f"above {above}", above is None or value > above),
        (f"at most {high}", high is None or value <= high),
        (f"below {below}", below is None or value < below),
    ]
    if not all(holds for _, holds in rules):
        wanted = [rule for (rule, _), bound in zip(rules, (low, above, high, below), strict=True) if bound is not None]
        raise ValueError(f"{name} must be {' and '.join(wanted)}, got {value}")


def check_order(low_name: str, low: float, high_name: str, high: float, strict: bool = False) -> None:
    """Refuse two ends of a range that are the wrong way round, or equal where that is not allowed either.

    Raises:
        ValueError: "low must be at most high, but low is 4 and high is 2.0".
    """
    if not (low < high if strict else low <= high):
        rule = "below" if strict else "at most"
        raise ValueError(f"{low_name} must be {rule} {high_name}, but {low_name} is {low} and {high_name} is {high}")


def _list(choices: list[object]) -> str:
    """Return "a", "a or b", or "a, b or c"."""
    texts = ["null" if choice is None else str(choice) for choice in choices]
    return " or ".join([*([", ".join(texts[:-1])] if texts[:-1] else []), texts[-1]])
