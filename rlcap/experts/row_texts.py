"""What comes with the row: human references, the alternative text of a web page, or any column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcap.errors import DataError
from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.experts.statement import Kind
from rlcap.types import Sample, says_something


class References(Expert):
    """The human captions of the row, one statement each.

    Args:
        most: Captions, at most; None for all.
    """

    reads_row = True

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return a statement for each caption that says something."""
        return [
            [Statement(text, "reference") for text in one.sample.references if says_something(text)][: self.most]
            for one in inputs
        ]


class RowText(Expert):
    """A text column of the row, such as the alternative text that a web page gives for its image.

    Args:
        column: Name of the column. `paragraph` is the paragraph of the row; every other column is in `meta`.
        kind: The kind of the statements.
    """

    reads_row = True

    def __init__(self, column: str = "alt_text", kind: Kind = "alt_text") -> None:
        self.column, self.kind = column, kind

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return a statement for the column's text, or for each text of its list; none where the row lacks the column.

        Raises:
            DataError: The column holds something else than texts.
        """
        return [[Statement(text, self.kind) for text in self._texts(one.sample)] for one in inputs]

    def _texts(self, sample: Sample) -> list[str]:
        value: Any = sample.paragraph if self.column == "paragraph" else sample.meta.get(self.column)
        texts = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"sample {sample.id!r}: the column {self.column!r} must be a text or a list of texts, got {value!r:.60}"
            )
        return [text for text in texts if says_something(text)]
