"""The summary of fused rows: how many, how long, how many assertions, and which sentences were dropped and why.

Everything is counted row by row, so that a summary of any number of rows takes the same memory.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlcap.fuse.pipeline import Failure
from rlcap.fuse.support import content_words
from rlcap.scorers.text.ngrams import tokenize


@dataclass(slots=True)
class FusionSummary:
    """Counts over all rows of a fusion."""

    rows: int = 0
    sentences: int = 0
    """Sentences that stayed."""
    flagged: int = 0
    """Sentences that stayed without support."""
    rewritten: int = 0
    """Sentences that were given back for rewriting."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Why → sentences that were dropped."""
    failed: Counter[str] = field(default_factory=Counter)
    """Why → images without a paragraph."""
    statements: Counter[str] = field(default_factory=Counter)
    """Expert → statements."""
    used: Counter[str] = field(default_factory=Counter)
    """Expert → statements that at least one sentence of the paragraph says."""
    words: Counter[int] = field(default_factory=Counter)
    """Words of a paragraph → rows."""
    assertions: int = 0
    """Content words of all paragraphs, each counted once a sentence: an estimate of the assertions without a parser."""

    def add(self, outcome: Mapping[str, Any] | Failure) -> None:
        """Count one image."""
        if isinstance(outcome, Failure):
            self.failed[outcome.reason] += 1
            return
        fusion = outcome["fusion"]
        sentences = fusion["sentences"]
        self.rows += 1
        self.sentences += len(sentences)
        self.flagged += sum("unsupported" in one for one in sentences)
        self.rewritten += len(fusion.get("rewritten", ()))
        self.dropped.update(one["unsupported"] for one in fusion.get("dropped", ()))
        self.words[len(tokenize(outcome["paragraph"]))] += 1
        self.assertions += sum(len(content_words(one["text"])) for one in sentences)
        self.statements.update(one["source"] for one in fusion["statements"])
        said = {i for one in sentences for i in one["statements"]}
        self.used.update(fusion["statements"][i]["source"] for i in said)

    def add_all(self, outcomes: Iterable[Mapping[str, Any] | Failure]) -> FusionSummary:
        """Count many images."""
        for outcome in outcomes:
            self.add(outcome)
        return self

    @property
    def assertions_per_caption(self) -> float:
        """Mean of the estimated assertions of a paragraph; 0 without rows."""
        return self.assertions / self.rows if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a mapping of JSON values."""
        values = sorted(self.words.elements())
        words = {"mean": statistics.fmean(values), "median": statistics.median(values)} if values else None
        return {
            "rows": self.rows,
            "failed": dict(self.failed.most_common()),
            "sentences": self.sentences,
            "sentences_flagged": self.flagged,
            "sentences_rewritten": self.rewritten,
            "sentences_dropped": dict(self.dropped.most_common()),
            "words": words,
            "assertions_per_caption": round(self.assertions_per_caption, 3),
            "statements": dict(self.statements),
            "statements_used": {name: self.used[name] for name in self.statements},
        }

    def text(self) -> str:
        """Return the summary as lines for people."""
        values = self.to_json()
        words = values["words"]
        lines = [f"{self.rows:,} paragraphs, {self.sentences:,} sentences"]
        if words:
            lines.append(
                f"{words['mean']:.1f} words a paragraph (median {words['median']:g}), about "
                f"{self.assertions_per_caption:.1f} assertions"
            )
        if self.rewritten:
            lines.append(f"{self.rewritten:,} sentences given back for rewriting")
        if self.flagged:
            lines.append(f"{self.flagged:,} sentences flagged")
        lines += [f"{count:,} sentences dropped: {why}" for why, count in self.dropped.most_common()]
        lines += [
            f"expert {name}: {count:,} statements, {self.used[name]:,} of them said in a paragraph"
            for name, count in self.statements.items()
        ]
        lines += [f"{count:,} images without a paragraph: {why}" for why, count in self.failed.most_common()]
        return "\n".join(lines)
