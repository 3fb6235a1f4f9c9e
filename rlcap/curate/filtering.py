"""Scores in the rows of a data set, and the best share of them.

The best share by a learnt judge of image and text is the filter of Compress & Align (arXiv 2312.06726). Scores come from a `ScoreLog`, so that
another share needs no new scores.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlcap.curate.lineage import lineage_of, row_with_lineage, write_rows
from rlcap.curate.scoring import ScoreLog, Text
from rlcap.errors import InputError
from rlcap.io.json_values import nan_to_null
from rlcap.reward.mix import RewardMix
from rlcap.types import Sample


@dataclass(frozen=True, slots=True)
class FilterSummary:
    """What became of the rows of a data set."""

    rows: int
    kept: int
    without: int
    """Rows without a score: without the caption, or because every reward abstained. A filter drops them."""
    mean: float
    """Mean score of all rows with a score."""
    mean_kept: float
    """Mean score of the rows that were written."""

    def text(self) -> str:
        """Return the summary for the terminal."""
        lines = [f"{self.kept:,} of {self.rows:,} rows; mean score {self.mean:.4g}, of the written rows {self.mean_kept:.4g}"]  # fmt: skip
        if self.without:
            lines.append(f"{self.without:,} rows have no score, because they have no caption or every reward abstained")
        return "\n".join(lines)


def best_rows(scores: Sequence[float], share: float) -> np.ndarray:
    """Return (N,) bool: the best ⌈share · n⌉ of the n rows with a score. Of rows with equal scores, the first ones are kept.

    Args:
        scores: N scores; NaN for a row without one.
        share: The share, in (0, 1].

    Raises:
        InputError: No row has a score.
    """
    values = np.asarray(scores, dtype=np.float64)
    judged = np.flatnonzero(~np.isnan(values))
    if not len(judged):
        raise InputError("no row has a score: the reward abstains on every row; choose another reward")
    order = judged[np.argsort(-values[judged], kind="stable")]
    kept = np.zeros(len(values), dtype=bool)
    kept[order[: math.ceil(share * len(judged) - 1e-9)]] = True
    return kept


def write_scored(
    rows: Callable[[], Iterable[Sample]],
    mix: RewardMix,
    out: Path,
    log: ScoreLog,
    *,
    source: str,
    text: Text = "paragraph",
    share: float | None = None,
) -> FilterSummary:
    """Write the rows of a data set with their scores: all of them, or the best share.

    The rows are read three times and never held together; a score takes 8 bytes a row. A row gets `score` and, by the terms of the mix,
    `scores`.

    Args:
        rows: Returns the rows from the beginning.
        mix: The rewards.
        out: The file that is written, as a whole or not at all.
        log: The scores; those that it has already are not computed again.
        source: The name of the data set, for the lineage.
        text: Which captions of a row are scored.
        share: The share of the rows with a score that is kept, in (0, 1]; None writes every row.

    Raises:
        InputError: The log belongs to other rows or settings, or no row has a score where a share is to be kept.
    """
    log.complete(rows(), mix, text, sum(1 for _ in rows()))
    totals = log.totals(mix.weights)
    kept = np.ones(len(totals), dtype=bool) if share is None else best_rows(totals, share)
    step = "score" if share is None else "filter"
    parameters = {"keep": share} if share is not None else {}

    def written() -> Iterator[Mapping[str, Any]]:
        for (sample, values), total, keep in zip(log.pairs(rows(), text), totals, kept.tolist(), strict=True):
            if keep:
                own = dict(zip(mix.names, values, strict=True))
                lineage = lineage_of(sample, step, source, total, text=text, **parameters)
                added = nan_to_null({"score": total, "scores": own})
                yield row_with_lineage(sample, out, lineage, added)

    count = write_rows(out, written())
    return _summarise(totals, kept, count)


def _summarise(totals: array[float], kept: np.ndarray, count: int) -> FilterSummary:
    values = np.asarray(totals)
    judged = ~np.isnan(values)
    means = [float(values[rows].mean()) if rows.any() else math.nan for rows in (judged, judged & kept)]
    return FilterSummary(len(values), count, int((~judged).sum()), *means)
