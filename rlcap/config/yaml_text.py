"""The one reader of YAML: safe, bounded, and with numbers as YAML 1.2 has them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from rlcap.errors import ConfigError

MAX_CHARACTERS = 1_000_000
"""Longest text that is read; a configuration has some thousand characters."""
MAX_VALUES = 20_000
"""Most values after all aliases are written out. Nine lines of aliases of aliases stand for a billion values."""
MAX_DEPTH = 50
"""Deepest nesting."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that reads 2e-3 as a number, as YAML 1.2 does."""


_Loader.yaml_implicit_resolvers = {key: list(rules) for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str, what: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: The text.
        what: What it is, for messages, such as "config.yaml".

    Raises:
        ConfigError: It is not YAML, too long, too deep, has too many values, or a number of more than 4,300 digits.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{what} has {len(text):,} characters; a configuration has at most {MAX_CHARACTERS:,}")
    if _flow_depth(text) > MAX_DEPTH:  # the parser takes time that grows with the square of the depth
        raise ConfigError(f"{what} has more than {MAX_DEPTH} levels of brackets; write it flatter")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise ConfigError(f"{what} is nested too deeply") from error
    except (
        ValueError,
        OverflowError,
        TypeError,
    ) as error:  # a number or date that Python can't hold, an unhashable key
        raise ConfigError(f"{what} holds a value that can't be read: {str(error)[:200]}") from error
    _check_size(value, what)
    return _join_surrogates(value)


def _join_surrogates(value: Any) -> Any:
    """Return a value in which surrogate pairs are one character, and lone surrogates U+FFFD.

    YAML reads the escapes of a pair, which JSON writes for an emoji, as two characters that can't be written as UTF-8.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_join_surrogates(key): _join_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_join_surrogates(item) for item in value]
    return value


def _flow_depth(text: str) -> int:
    """Return the greatest number of brackets that are open at once, in a text or in its quoted parts."""
    depth = greatest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = max(0, depth + (1 if bracket in "[{" else -1))
        greatest = max(greatest, depth)
    return greatest


def _check_size(value: Any, what: str) -> None:
    """Raise ConfigError where a value is too large or refers to itself. It ends after `MAX_VALUES` steps."""
    count = 0
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            limit = f"{MAX_VALUES:,} values" if count > MAX_VALUES else f"{MAX_DEPTH} levels"
            raise ConfigError(f"{what} has more than {limit} once its aliases are written out; write it shorter")
        if isinstance(one, dict):
            waiting += [(item, depth + 1) for item in one.values()]
        elif isinstance(one, list | tuple | set):
            waiting += [(item, depth + 1) for item in one]
