"""A rubric, which is a list of criteria for captions of one image, and a strict parser of a judge's reply to it.

A row brings its own rubric in `meta["rubric"]`, written once by somebody who sees the image:

    [{"criterion": "Says that the ball is red.", "weight": 3}, {"criterion": "Doesn't call the boat a ship.", "weight": 1}]

    <criteria>
    1. it says that the ball is red | yes
    2. it calls the boat a ship | no
    </criteria>

Each criterion is met or not, and the judge gives the reason before the word. The parser refuses every other form,
because guessing at a broken reply would add the parser's errors to the reward.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.errors import ReplyFormatError, RubricError
from rlcap.judge.grader import Grader
from rlcap.judge.parsing import read_sections
from rlcap.judge.templates import delimit
from rlcap.types import Sample

WEIGHTS = (1, 3)
"""Smallest and largest weight: of a criterion that is nice to have, and of an essential one."""
_LINE = re.compile(r"(\d+)\.\s*(.*?)\s*\|\s*(yes|no)\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric."""

    text: str
    weight: float = 1.0
    """From 1 to 3."""


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """The judge's answer to one criterion."""

    reason: str
    met: bool


def parse_rubric(sample: Sample) -> list[Criterion]:
    """Return the criteria in `meta["rubric"]`; [] where there are none.

    Raises:
        RubricError: for a criterion that can't be used; it names the sample.
    """
    rows = sample.meta.get("rubric")
    if rows is None:
        return []
    if not isinstance(rows, list | tuple):
        raise RubricError(f'sample {sample.id!r}: meta["rubric"] must be a list, got {rows!r:.60}')
    return [_parse_criterion(row, f'sample {sample.id!r}: meta["rubric"][{i}]') for i, row in enumerate(rows)]


def _parse_criterion(row: Any, where: str) -> Criterion:
    text = row.get("criterion") if isinstance(row, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise RubricError(
            f"{where} is {row!r:.60}; write {{criterion: a sentence, weight: {WEIGHTS[0]} to {WEIGHTS[1]}}}"
        )
    weight = row.get("weight", WEIGHTS[0])
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not WEIGHTS[0] <= weight <= WEIGHTS[1]:
        raise RubricError(f"{where}: the weight must be a number from {WEIGHTS[0]} to {WEIGHTS[1]}, got {weight!r:.40}")
    return Criterion(" ".join(text.split()), float(weight))


def parse_criteria(reply: str, count: int) -> list[CriterionResult]:
    """Return one answer for each criterion, in order.

    Args:
        reply: the judge's reply.
        count: the number of criteria.

    Raises:
        ReplyFormatError: for a reply that is not `count` lines `1. reason | yes`.
    """
    (text,) = read_sections(reply, "criteria")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != count:
        raise ReplyFormatError(f"{len(lines)} answers to {count} criteria")
    results = []
    for number, line in enumerate(lines, 1):
        cells = _LINE.fullmatch(line)
        if cells is None or int(cells[1]) != number:
            raise ReplyFormatError(f"an answer must be a line `{number}. reason | yes`, got {line[:60]!r}")
        results.append(CriterionResult(cells[2], cells[3].lower() == "yes"))
    return results


def format_criteria(results: Sequence[CriterionResult]) -> str:
    """Return the list in the form that the judge is asked for; `parse_criteria` reads it back."""
    rows = [f"{i}. {one.reason} | {'yes' if one.met else 'no'}" for i, one in enumerate(results, 1)]
    return "\n".join(["<criteria>", *rows, "</criteria>"])


def weighted_share(rubric: Sequence[Criterion], results: Sequence[CriterionResult]) -> float:
    """Return Σ weight · met / Σ weight, in [0, 1]; weights 3, 2, 1 of which the first and last are met give 4/6."""
    total = math.fsum(criterion.weight for criterion in rubric)
    return math.fsum(c.weight for c, one in zip(rubric, results, strict=True) if one.met) / total


class RubricReader(Grader):
    """Reads answers to the sample's criteria. Its prompt holds neither weights nor references."""

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the caption and the numbered criteria."""
        lines = [f"{i}. {criterion.text}" for i, criterion in enumerate(parse_rubric(sample), 1)]
        return {"rubric": delimit("rubric", "\n".join(lines)), "caption": delimit("caption", caption)}

    def has_material(self, sample: Sample) -> bool:
        """Whether the sample has a rubric."""
        return bool(parse_rubric(sample))

    def parse(self, reply: str, sample: Sample) -> list[CriterionResult]:
        """Read an answer to each criterion.

        Raises:
            ReplyFormatError: for a reply of another form.
        """
        return parse_criteria(reply, len(parse_rubric(sample)))
