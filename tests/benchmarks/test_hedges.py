"""The gains of benchmarks/hedges.py, on a reward that one of the hedges deceives."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from hedges import HEDGES, add_hedge, measure_gains

from rlcap.types import Score


class Believer:
    """A reward that gives .5 for each reference, and .3 for "might"."""

    def score(self, batch):
        rows = zip(batch.captions, batch.samples, strict=True)
        return [Score(0.5 * len(sample.references) + 0.3 * ("might" in caption)) for caption, sample in rows]


def test_golden_gains():
    assert add_hedge("A dog sits.", "Maybe") == "Maybe a dog sits."
    assert add_hedge("", "Maybe") == "Maybe "
    found = measure_gains(Believer(), ["A dog sits.", "A cat."], [["a dog"], ["a cat", "it"]])
    assert found == {HEDGES[0]: pytest.approx([0.3, 0.3]), HEDGES[1]: [0, 0]}
