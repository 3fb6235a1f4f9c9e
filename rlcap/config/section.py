"""The base of every part of a configuration: a pydantic model that takes values literally and refuses unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from rlcap.config.validation import describe_problems
from rlcap.errors import ConfigError


class Section(BaseModel):
    """A part of a configuration.

    Values are taken literally: `true` is no number, and "5" is a text. The sentence under a field is its documentation.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], root: str = "") -> Self:
        """Build the section from a mapping.

        Args:
            values: field → value.
            root: dotted path of the section, for messages.

        Raises:
            ConfigError: names every unknown key and every value that is wrong, each with what to write instead.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(describe_problems(error, cls, root)) from error
