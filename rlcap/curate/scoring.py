"""Scores the captions of a data set by a reward mix, into a log from which an interrupted run goes on.

    log = ScoreLog(Path("levelled.scores.jsonl"), {"mix": …, "text": "paragraph"})
    log.complete(rows, mix, "paragraph", total=20_000)       # scores what the log does not have yet
    totals = log.totals(mix.weights)                          # one number for each row

A line of the log belongs to the row at the same position. Rows are scored in chunks, and a chunk is appended in one write. After a
kill, chunks begin where they would have begun, so that the log has the same bytes as that of a run that was never stopped.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from rlcap.curate.chunks import begin_log
from rlcap.errors import InputError
from rlcap.io.atomic import append_rows
from rlcap.io.text import iter_log
from rlcap.reward.mix import RewardMix
from rlcap.reward.running_statistics import RunningMoments
from rlcap.types import RewardBatch, Sample

CHUNK = 64
"""Rows that are scored at once."""
Text = Literal["paragraph", "references"]
"""Which captions of a row are scored: its paragraph, or all its references, whose scores are averaged."""


def captions_of(sample: Sample, text: Text) -> list[tuple[str, Sample]]:
    """Return the captions of a row with the samples that a reward compares them with.

    A reference is compared with the other references only.

    Args:
        sample: The row.
        text: Which captions are meant.
    """
    if text == "paragraph":
        return [(sample.paragraph, sample)] if sample.paragraph else []
    texts = sample.references
    return [(own, replace(sample, references=(*texts[:i], *texts[i + 1 :]))) for i, own in enumerate(texts)]


class ScoreLog:
    """The scores of a data set's captions by the terms of a mix, on disk.

    Args:
        path: The log.
        settings: What determines the scores, as JSON values. A log of other settings is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)

    def complete(self, rows: Iterable[Sample], mix: RewardMix, text: Text, total: int) -> None:
        """Score the rows that the log does not have yet.

        Args:
            rows: All rows of the data set, in order.
            mix: The rewards.
            text: Which captions of a row are scored.
            total: Number of rows.

        Raises:
            InputError: The log belongs to other settings or other rows.
        """
        done = self._begin()
        if done > total:
            raise InputError(
                f"{self.path} has the scores of {done} rows, but the data has {total}; remove the file to score again"
            )
        remaining = iter(rows)
        with tqdm(total=total, initial=done, desc="score", unit="row") as bar:
            for entry, sample in zip(islice(self._rows(), done), islice(remaining, done), strict=True):
                self._check(entry, sample, text)
            while chunk := list(islice(remaining, CHUNK)):
                append_rows(self.path, _score(chunk, mix, text), "the scores")
                bar.update(len(chunk))

    def pairs(self, rows: Iterable[Sample], text: Text) -> Iterator[tuple[Sample, list[float]]]:
        """Yield each row with its K values; NaN where a term could not judge any caption of the row.

        Args:
            rows: The rows that were scored, in order.
            text: Which captions were scored.

        Raises:
            InputError: The log belongs to other rows.
        """
        for entry, sample in zip(self._rows(), rows, strict=True):
            self._check(entry, sample, text)
            yield sample, _values(entry)

    def totals(self, weights: Sequence[float]) -> array[float]:
        """Return one number for each row: Σ_k w_k (v_k − mean_k) / std_k over the data set, as the terms of a mix have different units.

        With a single term it is w · v, in the unit of the reward. A term that could not judge a row counts as average; a row that no
        term could judge has NaN. The array takes 8 bytes a row.

        Args:
            weights: The K weights.
        """
        moments = RunningMoments([str(k) for k in range(len(weights))])
        totals = array("d")
        if len(weights) > 1:
            for entry in self._rows():
                moments.update([[value] for value in _values(entry)])
        means, stds = moments.means(), moments.stds()
        for entry in self._rows():
            values = _values(entry)
            judged = [k for k, value in enumerate(values) if not math.isnan(value)]
            if not judged:
                totals.append(math.nan)
            elif len(weights) == 1:
                totals.append(weights[0] * values[0])
            else:
                totals.append(sum(weights[k] * (values[k] - means[k]) / stds[k] for k in judged if stds[k] > 0))
        return totals

    def _rows(self) -> Iterator[dict[str, Any]]:
        return islice(iter_log(self.path), 1, None)

    def _begin(self) -> int:
        """Create the log, or cut it back to its complete chunks, and return how many rows it has."""
        return begin_log(self.path, self.settings, CHUNK)

    def _check(self, entry: Mapping[str, Any], sample: Sample, text: Text) -> None:
        if (entry["id"], entry["text"]) != (sample.id, _checksum(sample, text)):
            raise InputError(
                f"{self.path} has the scores of other rows: it has {entry['id']!r} where the data has {sample.id!r}, or the text of this row has "
                "changed; remove the file to score again"
            )


def _score(chunk: Sequence[Sample], mix: RewardMix, text: Text) -> list[dict[str, Any]]:
    """Return the lines of a chunk: id, checksum of the texts, and per term the mean over the row's captions (None: not judged)."""
    pairs = [(i, caption, own) for i, sample in enumerate(chunk) for caption, own in captions_of(sample, text)]
    found: list[list[list[float]]] = [[[] for _ in mix.names] for _ in chunk]
    if pairs:
        batch = RewardBatch([caption for _, caption, _ in pairs], [own for _, _, own in pairs])
        for (i, _, _), values in zip(pairs, mix.score(batch).values.tolist(), strict=True):
            for k, value in enumerate(values):
                if not math.isnan(value):
                    found[i][k].append(value)
    return [
        {
            "id": sample.id,
            "text": _checksum(sample, text),
            "values": [math.fsum(own) / len(own) if own else None for own in columns],
        }
        for sample, columns in zip(chunk, found, strict=True)
    ]


def _values(entry: Mapping[str, Any]) -> list[float]:
    return [math.nan if value is None else value for value in entry["values"]]


def _checksum(sample: Sample, text: Text) -> int:
    return zlib.crc32("\n".join(caption for caption, _ in captions_of(sample, text)).encode())
