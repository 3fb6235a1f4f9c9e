"""The metric catalog: label, direction and unit of each metric, for tables and charts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """How to show a metric."""

    label: str
    """The label in tables and charts."""
    better: int = 0
    """+1 where higher is better, −1 where lower is better, 0 where neither is."""
    unit: str = "share"
    """`share` (in [0, 1], shown in percent) or `number`."""

    def format(self, value: float) -> str:
        """Return the value as text; – for a value that is not finite."""
        if not math.isfinite(value):
            return "–"
        if self.unit == "share":
            return f"{signed_text(100 * value, 1, plus=False)}\N{NO-BREAK SPACE}%"
        return signed_text(value, _decimals(value), plus=False)

    def format_change(self, value: float) -> str:
        """Return a difference of values as text with its sign; shares in percentage points without a unit."""
        if not math.isfinite(value):
            return "–"
        return signed_text(100 * value, 1) if self.unit == "share" else signed_text(value, _decimals(value))


CATALOG = {
    "singles_out": MetricInfo("Fits its own image best by the known truth, bag of 5", +1),
    "fact_recall": MetricInfo("Facts stated", +1),
    "hallucination_rate": MetricInfo("False claims among claims", -1),
    "hallucinated": MetricInfo("Captions with a false claim", -1),
    "hallucination_rate_object": MetricInfo("False claims about objects", -1),
    "hallucination_rate_attribute": MetricInfo("False claims about colour, size, pattern", -1),
    "hallucination_rate_background": MetricInfo("False claims about the background", -1),
    "hallucination_rate_unseen": MetricInfo("False claims about relations, places, counts", -1),
    "wrong_object": MetricInfo("Wrong objects per caption", -1, "number"),
    "wrong_attribute": MetricInfo("Wrong attributes per caption", -1, "number"),
    "wrong_background": MetricInfo("Wrong backgrounds per caption", -1, "number"),
    "wrong_unseen": MetricInfo("Wrong relations, places, counts per caption", -1, "number"),
    "claims": MetricInfo("Claims per caption", 0, "number"),
    "grammatical": MetricInfo("Grammatical sentences", +1),
    "cider_d": MetricInfo("CIDEr-D", +1, "number"),
    "nli_contradiction": MetricInfo("Sentences that the references contradict", -1),
    "nli_entailment": MetricInfo("Sentences that the references entail", +1),
    "length_error": MetricInfo("Distance from the requested length", -1),
    "in_format": MetricInfo("Captions of the requested format's length", +1),
    "question_answered": MetricInfo("Captions that name what their row asks about", +1),
    "mean_words": MetricInfo("Words", 0, "number"),
    "distinct_1": MetricInfo("Different words within a caption", +1),
    "distinct_2": MetricInfo("Different word pairs within a caption", +1),
    "corpus_distinct_1": MetricInfo("Different words over all captions", +1),
    "corpus_distinct_2": MetricInfo("Different word pairs over all captions", +1),
    "repetition": MetricInfo("Repeated 4-grams", -1),
    "repeated_sentences": MetricInfo("Repeated sentences", -1),
}
"""Metric → how to show it, in reading order; `metric_info` also knows the retrieval metrics `bag<k>_…`, `rd<k>_…`."""

HEADLINES = (
    ("More distinctive", ("bag5_recall_at_1", "bag3_recall_at_1", "rd100_recall_at_1")),
    ("More faithful", ("hallucination_rate", "nli_contradiction")),
    ("More detailed", ("fact_recall", "cider_d", "nli_entailment")),
)
"""Pairs (goal, metrics): the first of the metrics that a run has measures whether the run reached the goal."""

MAIN_METRICS = (
    "bag3_recall_at_1", "bag5_recall_at_1", "bag7_recall_at_1", "rd100_recall_at_1", "singles_out", "fact_recall",
    "hallucination_rate", "hallucination_rate_unseen", "hallucinated", "grammatical", "cider_d", "nli_contradiction",
    "nli_entailment", "mean_words", "repetition", "repeated_sentences",
)  # fmt: skip
"""Metrics that the report shows first and that the over-optimization alarm watches, by their `canonical_name`."""


def signed_text(value: float, decimals: int, plus: bool = True) -> str:
    """Return a number with a true minus. A number that is rounded to zero has no sign.

    Args:
        value: A finite number.
        decimals: The number of decimals.
        plus: Whether a positive number has a plus.
    """
    text = f"{value:{'+' if plus else ''}.{decimals}f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")


def _decimals(value: float) -> int:
    return 1 if abs(value) >= 10 else 2


_RETRIEVAL = re.compile(r"(bag|rd)(\d+)_(recall_at_1|mean_rank)")


def metric_info(name: str) -> MetricInfo:
    """Return how to show a metric; an unknown metric is a number without a direction, labelled by its name."""
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
    """Return the name under which `HEADLINES` and `MAIN_METRICS` list a metric.

    They differ for random distractors: in a split with fewer than 100 images, say 42, `rd100_…` is called `rd42_…`.
    """
    return re.sub(r"^rd\d+_", "rd100_", name)


def reading_order(names: set[str]) -> list[str]:
    """Return metric names in the order in which tables show them.

    Retrieval comes first: recall in bags by size, recall among random distractors, then mean ranks. The order of the
    catalog follows, and then all other metrics by name.
    """

    def position(name: str) -> tuple:
        if match := _RETRIEVAL.fullmatch(name):
            kind, size, what = match.groups()
            return 0, what == "mean_rank", kind == "rd", int(size), name
        catalog_names = list(CATALOG)
        return (1, catalog_names.index(name), 0, 0, name) if name in catalog_names else (2, 0, 0, 0, name)

    return sorted(names, key=position)
