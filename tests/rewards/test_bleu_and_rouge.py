"""BLEU and ROUGE as rewards; their values against pycocoevalcap are in tests/scorers/test_overlap.py."""

import pytest

from rlcap.rewards.bleu import Bleu
from rlcap.rewards.rouge import Rouge
from rlcap.types import RewardBatch, Sample


def judge(reward, *captions, references=("a red bus waits", "the red bus is parked")):
    return reward.score(RewardBatch(list(captions), [Sample("a", "", references)] * len(captions)))


def test_golden_values():
    same, half, empty = (score.value for score in judge(Bleu(order=1), "a red bus waits", "red bus sings now", ""))
    assert (same, half, empty) == pytest.approx((1, 0.5, 0))
    assert judge(Bleu(order=2), "a red bus waits")[0].value == pytest.approx(1)
    assert judge(Rouge(), "a red bus waits")[0].value == pytest.approx(1)
    # P = 2/4, R = 2/4 against both references
    assert judge(Rouge(), "red sings bus now")[0].value == pytest.approx(0.5)


def test_without_references_they_abstain():
    for reward in (Bleu(), Rouge()):
        (score,) = judge(reward, "a bus", references=("", " "))
        assert score.abstained


def test_orders_that_cannot_be():
    with pytest.raises(ValueError, match="1 to 4, got 5"):
        Bleu(order=5)
