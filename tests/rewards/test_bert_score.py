"""BERTScore on given vectors, and on an encoder."""

import pytest
import torch

from rlcap.io.addresses import resolve_address
from rlcap.rewards.bert_score import BertScore
from rlcap.scorers.token_matching import greedy_f1, rescale
from rlcap.types import RewardBatch, Sample


def judge(reward, *captions, references=("there is a red ball.",)):
    return reward.score(RewardBatch(list(captions), [Sample("a", "", references)] * len(captions)))


def test_golden_greedy_matching():
    one, two = torch.eye(3)[:2], torch.eye(3)[1:]
    assert greedy_f1(one, two) == pytest.approx((0.5, 0.5, 0.5))
    assert rescale(0.6, 0.2) == pytest.approx(0.5)


def test_the_reference_itself_is_best_and_order_is_heard():
    reward = BertScore(resolve_address("lab:nli"), baseline=0.4)
    same, near, far, empty = (
        s.value for s in judge(reward, "there is a red ball.", "there is a blue ball.", "grass", "")
    )
    assert same == pytest.approx(1, abs=1e-5)
    assert same > near > far > empty
    assert empty == -1


def test_abstains_without_references_and_refuses_a_baseline_of_one():
    assert judge(BertScore(resolve_address("lab:nli")), "a ball", "", references=(" ",))[0].abstained
    with pytest.raises(ValueError, match="got 1"):
        BertScore(resolve_address("lab:nli"), baseline=1)
