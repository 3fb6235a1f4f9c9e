"""Mixes recaptions with original captions, row by row.

Training on synthetic captions alone loses what only the original ones know: VeCLIP (arXiv 2310.07699), Recap-DataComp-1B (arXiv 2406.08478)
and LGS mix both. Here each row has its original caption with a stated probability, which a hash of its id decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcap.curate.lineage import lineage_of, row_with_lineage, write_rows
from rlcap.errors import InputError
from rlcap.types import Sample


@dataclass(slots=True)
class MixSummary:
    """Which caption the rows have."""

    original: int = 0
    """Rows whose original caption was drawn."""
    recaption: int = 0
    unmatched: int = 0
    """Rows without a recaption, which keep their original caption."""

    def text(self) -> str:
        """Return the summary for the terminal."""
        rows = self.original + self.recaption + self.unmatched
        return (
            f"{rows:,} rows: {self.recaption:,} with the recaption, {self.original:,} with the original caption, "
            f"{self.unmatched:,} without a recaption"
        )


def mix_captions(
    originals: Iterable[Sample],
    recaptions: Iterable[Sample],
    out: Path,
    *,
    share: float,
    names: tuple[str, str],
    seed: int = 0,
) -> MixSummary:
    """Write the original rows, of which a share keeps its caption and the others have that of the recaptions.

    Both are read once and side by side, so that the recaptions must have the order of the originals; some may be missing.

    Args:
        originals: The original rows. The caption is the paragraph, else the first reference.
        recaptions: The rows with the new captions as paragraphs, by the ids of the originals.
        out: The file that is written, as a whole or not at all.
        share: The probability with which a row keeps its original caption, in [0, 1].
        names: The names of both data sets, for the lineage.
        seed: Draws the rows that keep their caption.

    Raises:
        InputError: A recaption belongs to no row that follows, because it is of another data set or in another order.
    """
    summary = MixSummary()

    def written() -> Iterator[Mapping[str, Any]]:
        following = iter(recaptions)
        waiting = next(following, None)
        for sample in originals:
            new = waiting if waiting is not None and waiting.id == sample.id else None
            if new is not None:
                waiting = next(following, None)
            keeps = _draw(sample.id, seed) < share
            if new is None or not new.paragraph:
                summary.unmatched += 1
            elif keeps:
                summary.original += 1
            else:
                summary.recaption += 1
                lineage = lineage_of(new, "mix", names[1], share=share, caption="recaption")
                yield row_with_lineage(replace(sample, paragraph=new.paragraph), out, lineage)
                continue
            own = sample.paragraph or next(iter(sample.references), None)
            lineage = lineage_of(sample, "mix", names[0], share=share, caption="original")
            yield row_with_lineage(replace(sample, paragraph=own), out, lineage)
        if waiting is not None:
            raise InputError(
                f"the recaption {waiting.id!r} of {names[1]} belongs to no row of {names[0]} that follows the ones before it: recaptions must "
                "have the ids and the order of the originals"
            )

    write_rows(out, written())
    return summary


def _draw(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the id and the seed alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
