"""Caption formats of a data set: how long their captions are, how much they assert, and what mixtures of them come to.

The formats and ANA, the average number of assertions in a caption, are those of arXiv 2410.02740. A row has its captions in the column
`formats` ({SSC: …, DSC: …}), or one caption, its paragraph, with `control.format`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rlcap.scorers.text.lengths import BANDS
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import FORMATS, RewardBatch, Sample

CountAssertions = Callable[[RewardBatch], Sequence[int | None]]
"""N captions → the number of assertions in each; None where it could not be counted."""
CHUNK = 64
"""Captions whose assertions are counted at once."""


@dataclass(slots=True)
class FormatCounts:
    """What is known of the captions of a format."""

    captions: int = 0
    words: int = 0
    in_band: int = 0
    """Captions whose length lies in the format's band."""
    counted: int = 0
    """Captions whose assertions were counted."""
    assertions: int = 0

    @property
    def mean_words(self) -> float:
        """Words per caption."""
        return self.words / self.captions if self.captions else math.nan

    @property
    def ana(self) -> float:
        """Average number of assertions; NaN where none were counted."""
        return self.assertions / self.counted if self.counted else math.nan


@dataclass(slots=True)
class FormatTable:
    """The formats of a data set."""

    formats: dict[str, FormatCounts] = field(default_factory=dict)
    rows: int = 0
    without: int = 0
    """Rows without a caption in a format."""

    def text(self, mixtures: Sequence[Mapping[str, float]] = ()) -> str:
        """Return the table for the terminal, with a line for each mixture: its expected words and assertions per caption.

        Args:
            mixtures: Format → share; the shares need not sum to 1.
        """
        lines = [f"{'format':<28} {'captions':>9} {'words':>7} {'in band':>8} {'ANA':>6}"]
        for name, one in self.formats.items():
            band = f"{one.in_band / one.captions:.0%}" if name in BANDS and one.captions else "–"
            lines.append(f"{name:<28} {one.captions:>9,} {one.mean_words:>7.1f} {band:>8} {_number(one.ana):>6}")
        for mixture in mixtures:
            total = sum(mixture.values())
            shares = {name: share / total for name, share in mixture.items()}
            words, ana = (
                sum(share * getattr(self.formats.get(name, FormatCounts()), what) for name, share in shares.items())
                for what in ("mean_words", "ana")
            )
            label = " + ".join(f"{share:.0%} {name}" for name, share in shares.items())
            lines.append(f"{label:<28} {'':>9} {_number(words):>7} {'':>8} {_number(ana):>6}")
        if self.without:
            lines.append(
                f"{self.without:,} of {self.rows:,} rows have no caption in a format (column formats, or control.format)"
            )
        return "\n".join(lines)


def formats_of(sample: Sample) -> dict[str, str]:
    """Return format → caption of a row."""
    texts = sample.meta.get("formats")
    if isinstance(texts, Mapping):
        return {name: texts[name] for name in FORMATS if isinstance(texts.get(name), str) and texts[name].strip()}
    return {sample.control.format: sample.paragraph} if sample.control.format and sample.paragraph else {}


def tabulate_formats(rows: Iterable[Sample], count: CountAssertions | None = None, limit: int = 200) -> FormatTable:
    """Return the formats of a data set, whose rows are read once and not kept.

    Args:
        rows: The rows.
        count: Counts assertions; None leaves ANA out.
        limit: Captions of each format whose assertions are counted, the first ones, since a judge may cost money.
    """
    table = FormatTable({name: FormatCounts() for name in FORMATS})
    waiting: list[tuple[str, str, Sample]] = []
    asked = dict.fromkeys(FORMATS, 0)
    for sample in rows:
        found = formats_of(sample)
        table.rows += 1
        table.without += not found
        for name, text in found.items():
            one, words = table.formats[name], len(tokenize(text))
            one.captions += 1
            one.words += words
            one.in_band += name in BANDS and BANDS[name][0] <= words <= BANDS[name][1]
            if count is not None and asked[name] < limit:
                asked[name] += 1
                waiting.append((name, text, sample))
        if count is not None and len(waiting) >= CHUNK:
            _add_assertions(table, waiting, count)
            waiting = []
    if count is not None and waiting:
        _add_assertions(table, waiting, count)
    table.formats = {name: one for name, one in table.formats.items() if one.captions}
    return table


def _add_assertions(table: FormatTable, captions: Sequence[tuple[str, str, Sample]], count: CountAssertions) -> None:
    numbers = count(RewardBatch([text for _, text, _ in captions], [sample for _, _, sample in captions]))
    for (name, _, _), number in zip(captions, numbers, strict=True):
        if number is not None:
            table.formats[name].counted += 1
            table.formats[name].assertions += number


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
