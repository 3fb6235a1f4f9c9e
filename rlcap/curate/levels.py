"""Quality levels: which share of the data set's captions does a caption surpass, by the judgement of a reward or of a mix?

A captioner that learns captions of all qualities together with their levels can be asked for the best one afterwards, instead of losing the
rows that a filter would drop. The method is that of NoC (arXiv 2212.13563), which sorts web captions into buckets by their CLIP similarity.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from rlcap.curate.rows import to_row
from rlcap.curate.scoring import ScoreLog, Text, captions_of
from rlcap.errors import InputError
from rlcap.io.atomic import replaced_file
from rlcap.reward.mix import RewardMix
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Sample

Bins = Literal["quantile", "uniform"]
"""Levels of equally many captions, or of equally wide ranges of the score."""


def level_edges(scores: Sequence[float], levels: int, bins: Bins = "quantile") -> list[float]:
    """Return the levels − 1 edges between the levels, in ascending order.

    Args:
        scores: One score for each row; NaN for a row without one.
        levels: Number of levels, at least 2.
        bins: How the range is divided.

    Raises:
        InputError: No row has a score, or all scores are equal.
    """
    known = np.asarray(scores, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known) or known.min() == known.max():
        seen = f"all {len(known)} scores are {known[0]:g}" if len(known) else "the reward abstains on every row"
        raise InputError(f"levels can't be told apart: {seen}; choose another reward")
    shares = np.arange(1, levels) / levels
    if bins == "uniform":
        return (known.min() + shares * (known.max() - known.min())).tolist()
    return np.quantile(known, shares).tolist()


def level_of(score: float, edges: Sequence[float]) -> int:
    """Return the level of a score, from 1 (the worst) to len(edges) + 1. Equal scores have equal levels."""
    return 1 + bisect_right(edges, score)


@dataclass(slots=True)
class Level:
    """The rows of a level."""

    rows: int = 0
    words: int = 0
    """Words of all captions of the level."""
    captions: int = 0
    lowest: float = math.inf
    highest: float = -math.inf


@dataclass(slots=True)
class LevelSummary:
    """The result of assigning levels."""

    edges: list[float]
    """Scores between the levels."""
    levels: list[Level]
    """The levels, the worst first."""
    without: int = 0
    """Rows without a level: without the caption, or because every reward abstained."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Reason → bad rows that were skipped."""

    def text(self) -> str:
        """Return a table of the levels for the terminal."""
        total = sum(level.rows for level in self.levels) or 1
        lines = [f"{'level':>5} {'rows':>9} {'share':>6} {'words':>6}  score"]
        for number, level in enumerate(self.levels, 1):
            if not level.rows:
                lines.append(f"{number:>5} {0:>9}   none: too many captions have the same score")
                continue
            words = level.words / max(level.captions, 1)
            lines.append(
                f"{number:>5} {level.rows:>9,} {level.rows / total:>6.1%} {words:>6.1f}  {level.lowest:.4g} to {level.highest:.4g}"
            )
        if self.without:
            lines.append(f"{self.without:,} rows have no level, because they have no caption or every reward abstained")
        if self.skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
            lines.append(f"skipped {sum(self.skipped.values()):,} bad rows ({reasons})")
        return "\n".join(lines)


def assign_levels(
    rows: Callable[[], Iterable[Sample]],
    mix: RewardMix,
    out: Path,
    log: ScoreLog,
    *,
    levels: int = 8,
    bins: Bins = "quantile",
    text: Text = "paragraph",
) -> LevelSummary:
    """Write the rows of a data set with `control.level`.

    The rows are read three times and never held together: to count them, to score them, and to write them. A score takes 8 bytes a row.

    Args:
        rows: Returns the rows from the beginning.
        mix: The rewards.
        out: The file that is written, as a whole or not at all.
        log: The scores; those that it has already are not computed again.
        levels: Number of levels, at least 2. NoC has 8.
        bins: How levels are divided.
        text: Which captions of a row are scored.

    Raises:
        InputError: The log belongs to other rows or settings, or the scores are all equal.
    """
    log.complete(rows(), mix, text, total := sum(1 for _ in rows()))
    scores = log.totals(mix.weights)
    edges = level_edges(scores, levels, bins)
    summary = LevelSummary(edges, [Level() for _ in range(levels)])
    with replaced_file(out, "the rows") as partial, open(partial, "w", encoding="utf-8") as file:
        for (sample, _), score in zip(
            tqdm(log.pairs(rows(), text), total=total, desc="write", unit="row"), scores, strict=True
        ):
            file.write(
                json.dumps(to_row(_with_level(sample, score, edges), out.parent), ensure_ascii=False, default=str)
                + "\n"
            )
            _count(summary, sample, score, text)
    return summary


def _with_level(sample: Sample, score: float, edges: Sequence[float]) -> Sample:
    """Return the sample with its level, in place of one that it had."""
    level = None if math.isnan(score) else level_of(score, edges)
    return replace(sample, control=replace(sample.control, level=level))


def _count(summary: LevelSummary, sample: Sample, score: float, text: Text) -> None:
    if math.isnan(score):
        summary.without += 1
        return
    level = summary.levels[level_of(score, summary.edges) - 1]
    captions = [caption for caption, _ in captions_of(sample, text)]
    level.rows += 1
    level.captions += len(captions)
    level.words += sum(len(tokenize(caption)) for caption in captions)
    level.lowest, level.highest = min(level.lowest, score), max(level.highest, score)
