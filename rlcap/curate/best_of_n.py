"""Best-of-N: several captions of each image, of which a reward or a mix keeps the best.

    log = CandidateLog(Path("best.jsonl.candidates.jsonl"), {"samples": 8, …})
    log.complete(rows, sample, mix, total=20_000)
    write_best(rows(), log, mix, Path("best.jsonl"), source="photos.jsonl")

A line of the log holds the distinct captions of a row with their values. The draws of a row depend on its id and the seed alone.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rlcap.curate.chunks import begin_log
from rlcap.curate.lineage import lineage_of, row_with_lineage, write_rows
from rlcap.curate.rows import to_row
from rlcap.errors import InputError
from rlcap.io.atomic import append_rows
from rlcap.io.json_values import nan_to_null
from rlcap.io.text import iter_log
from rlcap.reward.mix import RewardMix
from rlcap.reward.running_statistics import RunningMoments
from rlcap.types import RewardBatch, Sample

CHUNK = 32
"""Rows that are captioned at once."""
SampleCaptions = Callable[[Sequence[Sample]], Sequence[Sequence[str]]]
"""B rows → the sampled captions of each."""


@dataclass(slots=True)
class BestSummary:
    """What re-ranking brought."""

    rows: int = 0
    without: int = 0
    """Rows on whose captions every reward abstained; they are left out."""
    mean: float = 0.0
    """Mean score of the candidates."""
    mean_best: float = 0.0
    """Mean score of the kept captions."""

    def text(self) -> str:
        """Return the summary for the terminal."""
        told = f"{self.rows:,} rows; mean score of the candidates {self.mean:.4g}, of the best {self.mean_best:.4g}"
        return told + (f"\n{self.without:,} rows left out: no reward could judge a caption" if self.without else "")


class CandidateLog:
    """Sampled captions with the values of the terms of a mix, on disk.

    Args:
        path: The log.
        settings: What determines captions and values, as JSON values. A log of other settings is refused.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)

    def complete(self, rows: Iterable[Sample], sample: SampleCaptions, mix: RewardMix, total: int) -> None:
        """Caption and score the rows that the log does not have yet.

        Args:
            rows: All rows, in order.
            sample: Samples captions.
            mix: The rewards.
            total: Number of rows.

        Raises:
            InputError: The log belongs to other settings or rows.
        """
        done = begin_log(self.path, self.settings, CHUNK)
        if done > total:
            raise InputError(f"{self.path} has {done} rows, but the data has {total}; remove the file to begin again")
        remaining = iter(rows)
        with tqdm(total=total, initial=done, desc="sample", unit="row") as bar:
            for entry, row in zip(islice(self.entries(), done), islice(remaining, done), strict=True):
                self.check(entry, row)
            while chunk := list(islice(remaining, CHUNK)):
                append_rows(self.path, _judge(chunk, sample(chunk), mix), "the candidates")
                bar.update(len(chunk))

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the rows: id, captions, and the K values of each caption."""
        return islice(iter_log(self.path), 1, None)

    def check(self, entry: Mapping[str, Any], row: Sample) -> None:
        """Check that a line belongs to a row.

        Raises:
            InputError: It does not.
        """
        if entry["id"] != row.id:
            raise InputError(
                f"{self.path} has captions of other rows: {entry['id']!r} where the data has {row.id!r}; remove the file"
            )

    def totals(self, weights: Sequence[float]) -> Iterator[list[float]]:
        """Yield the scores of each row's captions, as `ScoreLog.totals` defines them, over all candidates."""
        moments = RunningMoments([str(k) for k in range(len(weights))])
        if len(weights) > 1:
            for entry in self.entries():
                for values in entry["values"]:
                    moments.update([[math.nan if value is None else value] for value in values])
        means, stds = moments.means(), moments.stds()
        for entry in self.entries():
            yield [_total(values, weights, means, stds) for values in entry["values"]]


def _total(values: Sequence[float | None], weights: Sequence[float], means: Any, stds: Any) -> float:
    judged = [(k, value) for k, value in enumerate(values) if value is not None]
    if not judged:
        return math.nan
    if len(weights) == 1:
        return weights[0] * judged[0][1]
    return sum(weights[k] * (value - means[k]) / stds[k] for k, value in judged if stds[k] > 0)


def _judge(chunk: Sequence[Sample], captions: Sequence[Sequence[str]], mix: RewardMix) -> list[dict[str, Any]]:
    distinct = [list(dict.fromkeys(own)) for own in captions]
    batch = RewardBatch(
        [text for own in distinct for text in own],
        [sample for sample, own in zip(chunk, distinct, strict=True) for _ in own],
    )
    values = iter(mix.score(batch).values.tolist())
    return [
        {
            "id": sample.id,
            "captions": own,
            "values": nan_to_null([next(values) for _ in own]),
        }
        for sample, own in zip(chunk, distinct, strict=True)
    ]


def write_best(
    rows: Iterable[Sample],
    log: CandidateLog,
    mix: RewardMix,
    out: Path,
    *,
    source: str,
    samples: int,
) -> BestSummary:
    """Write each row with its best caption as the paragraph.

    Args:
        rows: All rows, in order.
        log: The complete log.
        mix: The rewards.
        out: The file of rows, written as a whole or not at all.
        source: The name of the data set, for the lineage.
        samples: Captions that were sampled of each row.

    Raises:
        InputError: The log belongs to other rows.
    """
    summary, kept, everything = BestSummary(), array("d"), array("d")

    def written() -> Iterator[Mapping[str, Any]]:
        for entry, row, scores in zip(log.entries(), rows, log.totals(mix.weights), strict=True):
            log.check(entry, row)
            order = _ranked(scores)
            if not order:
                summary.without += 1
                continue
            best, texts = order[0], entry["captions"]
            everything.extend(scores[k] for k in order)
            kept.append(scores[best])
            lineage = lineage_of(row, "best", source, scores[best], samples=samples, candidates=len(texts))
            yield row_with_lineage(replace(row, paragraph=texts[best]), out, lineage, {"score": scores[best]})

    summary.rows = write_rows(out, written())
    summary.mean, summary.mean_best = (math.fsum(x) / len(x) if x else math.nan for x in (everything, kept))
    return summary


def write_pairs(rows: Iterable[Sample], log: CandidateLog, mix: RewardMix, out: Path, margin: float = 0.0) -> int:
    """Write the best and the worst caption of each row as a preference, {image, chosen, rejected}, and return how many there are.

    Args:
        rows: All rows, in order.
        log: The complete log.
        mix: The rewards.
        out: The file of pairs, written as a whole or not at all.
        margin: Least difference of the scores; equal scores never give a pair.

    Raises:
        InputError: The log belongs to other rows.
    """

    def written() -> Iterator[Mapping[str, Any]]:
        for entry, row, scores in zip(log.entries(), rows, log.totals(mix.weights), strict=True):
            log.check(entry, row)
            judged = [k for k in _ranked(scores) if entry["captions"][k].strip()]
            if not judged or (gap := scores[judged[0]] - scores[judged[-1]]) <= 0 or gap < margin:
                continue
            image = to_row(row, out.parent)["image"]
            yield {"image": image, "chosen": entry["captions"][judged[0]], "rejected": entry["captions"][judged[-1]]}

    return write_rows(out, written())


def _ranked(scores: Sequence[float]) -> list[int]:
    """Return the indices of the captions with a score, the best first; of equal scores the first one."""
    return sorted((k for k, score in enumerate(scores) if not math.isnan(score)), key=lambda k: -scores[k])
