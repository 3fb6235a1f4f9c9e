"""What the metrics mean: name, direction and unit of each, for whoever shows them to people."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """How to show a metric."""

    label: str
    better: int = 0
    """+1: higher is better; −1: lower is; 0: neither by itself."""
    unit: str = "share"
    """`share` ([0, 1], shown in percent) or `number`."""

    def format(self, value: float) -> str:
        if not math.isfinite(value):
            return "–"
        return f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if self.unit == "share" else f"{value:.{_decimals(value)}f}"

    def format_change(self, value: float) -> str:
        """With its sign; shares in percentage points."""
        if not math.isfinite(value):
            return "–"
        text = f"{100 * value:+.1f}" if self.unit == "share" else f"{value:+.{_decimals(value)}f}"
        return text.replace("-", "−")


CATALOG = {
    "singles_out": MetricInfo("Singles out its image by truth, bag of 5", +1),
    "fact_recall": MetricInfo("Facts told", +1),
    "hallucination_rate": MetricInfo("False claims among claims", -1),
    "hallucinated": MetricInfo("Captions with a false claim", -1),
    "hallucination_rate_object": MetricInfo("False claims about objects", -1),
    "hallucination_rate_attribute": MetricInfo("False claims about colour, size, pattern", -1),
    "hallucination_rate_background": MetricInfo("False claims about the background", -1),
    "hallucination_rate_unseen": MetricInfo("False claims about relations, places, counts", -1),
    "wrong_object": MetricInfo("Wrong objects a caption", -1, "number"),
    "wrong_attribute": MetricInfo("Wrong attributes a caption", -1, "number"),
    "wrong_background": MetricInfo("Wrong backgrounds a caption", -1, "number"),
    "wrong_unseen": MetricInfo("Wrong relations, places, counts a caption", -1, "number"),
    "claims": MetricInfo("Claims a caption", 0, "number"),
    "grammatical": MetricInfo("Grammatical sentences", +1),
    "cider_d": MetricInfo("CIDEr-D", +1, "number"),
    "nli_contradiction": MetricInfo("Sentences that the references contradict", -1),
    "nli_entailment": MetricInfo("Sentences that the references entail", +1),
    "mean_words": MetricInfo("Words", 0, "number"),
    "distinct_1": MetricInfo("Different words within a caption", +1),
    "distinct_2": MetricInfo("Different word pairs within a caption", +1),
    "corpus_distinct_1": MetricInfo("Different words over all captions", +1),
    "corpus_distinct_2": MetricInfo("Different word pairs over all captions", +1),
    "repetition": MetricInfo("Repeated 4-grams", -1),
    "repeated_sentences": MetricInfo("Repeated sentences", -1),
}
"""Metric → how to show it, in reading order. `bag<k>_…` and `rd<k>_…` are described by `metric_info`."""

HEADLINES = (
    ("More distinctive", ("bag5_recall_at_1", "bag3_recall_at_1", "rd100_recall_at_1")),
    ("More faithful", ("hallucination_rate", "nli_contradiction")),
    ("More detailed", ("fact_recall", "cider_d", "nli_entailment")),
)
"""What was wanted → the metrics that tell, the first that a run has."""

MAIN_METRICS = (
    "bag3_recall_at_1", "bag5_recall_at_1", "bag7_recall_at_1", "rd100_recall_at_1", "singles_out", "fact_recall",
    "hallucination_rate", "hallucination_rate_unseen", "hallucinated", "grammatical", "cider_d", "nli_contradiction",
    "nli_entailment", "mean_words", "repetition", "repeated_sentences",
)  # fmt: skip
"""What the report's tables show first, and what the divergence alarm watches (by `canonical_name`)."""


def _decimals(value: float) -> int:
    return 1 if abs(value) >= 10 else 2


_RETRIEVAL = re.compile(r"(bag|rd)(\d+)_(recall_at_1|mean_rank)")


def metric_info(name: str) -> MetricInfo:
    """How to show a metric; one that is not in the catalogue goes by its name, as a number without a direction."""
    if name in CATALOG:
        return CATALOG[name]
    if match := _RETRIEVAL.fullmatch(name):
        kind, size, what = match.groups()
        among = f"in a bag of {size}" if kind == "bag" else f"among {int(size) - 1} random others"
        if what == "recall_at_1":
            return MetricInfo(f"Finds its image {among}", +1)
        return MetricInfo(f"Mean rank {among}", -1, "number")
    return MetricInfo(name.replace("_", " "), 0, "number")


def canonical_name(name: str) -> str:
    """The name by which `HEADLINES` and the report know a metric: that of a split with fewer than 100 images, `rd42_…`, goes
    as `rd100_…`."""
    return re.sub(r"^rd\d+_", "rd100_", name)


def reading_order(names: set[str]) -> list[str]:
    """Retrieval first (bags by size, then random), ranks last of them, then the catalogue's order, then the rest."""

    def place(name: str) -> tuple:
        if match := _RETRIEVAL.fullmatch(name):
            kind, size, what = match.groups()
            return 0, what == "mean_rank", kind == "rd", int(size), name
        known = list(CATALOG)
        return (1, known.index(name), 0, 0, name) if name in known else (2, 0, 0, 0, name)

    return sorted(names, key=place)
