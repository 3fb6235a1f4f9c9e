"""When held-out metrics count as worse."""

import pytest

from rlcap.eval.divergence import clearly_worse


def change(mean, half=0.001):
    return {"mean": mean, "low": mean - half, "high": mean + half}


@pytest.mark.parametrize(
    ("metric", "difference", "worse"),
    [
        ("hallucination_rate", change(0.02), True),
        ("hallucination_rate", change(0.02, half=0.03), False),  # may be chance
        ("hallucination_rate", change(-0.02), False),  # better
        ("grammatical", change(-0.02), True),
        ("grammatical", change(-0.003), False),  # sure, and slight
        ("cider_d", change(-0.003), True),  # no share: what is slight depends on its scale
        ("mean_words", change(-5.0), False),  # neither better nor worse by itself
    ],
)
def test_worse_beyond_chance_and_by_a_percentage_point(metric, difference, worse):
    assert clearly_worse(metric, difference) is worse
