"""Coverage of what the references say: golden values on given vectors, and an encoder."""

import pytest
from fake_models import OneHot

from rlcap.errors import ConfigError
from rlcap.io.addresses import resolve_address
from rlcap.rewards.coverage import Coverage
from rlcap.scorers.grounding import Grounding
from rlcap.types import RewardBatch, Sample

REFERENCES = ("Two dogs on grass.", "dogs run")


def judge(reward, *captions, references=REFERENCES):
    return [s.value for s in reward.score(RewardBatch(list(captions), [Sample("a", "", references)] * len(captions)))]


def test_golden_each_reference_counts():
    # words: two, dogs, on, grass; dogs, run
    reward = Coverage(Grounding(OneHot()))
    found = judge(reward, "dogs", "dogs on grass", "2 dogs run on grass", "cats", "", "the a")
    assert found == pytest.approx([2 / 6, 4 / 6, 1, 0, 0, 0])


def test_a_fact_more_is_worth_more_whatever_else_is_said():
    reward = Coverage(resolve_address("lab:nli"))
    less, more = judge(
        reward, "there is a ball.", "there is a red ball.", references=("there is a red ball.", "a ball is red.")
    )
    assert less < more <= 1


def test_what_claims_nothing_gives_no_value_and_nonsense_is_refused():
    assert judge(Coverage(Grounding(OneHot())), "dogs", references=(" ", "it is")) == [None]
    assert judge(Coverage(Grounding(OneHot())), "dogs", references=()) == [None]
    with pytest.raises(ValueError, match="got 1"):
        Coverage(resolve_address("lab:nli"), chance=1)
    with pytest.raises(ConfigError, match="no-such"):
        Coverage("./no-such")
