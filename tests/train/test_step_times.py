"""The seconds of a step: phases that run twice add up, and an update does not include the round within it."""

import pytest

from rlcap.train import step_times
from rlcap.train.step_times import StepTimes


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(step_times.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(step_times.torch.cuda, "is_available", lambda: False)
    return now


def test_a_step_with_a_round_whose_groups_are_refilled(clock):
    logged = {}
    times = StepTimes(logged.__setitem__)
    with times.update():
        with times.phase("round"):
            for _ in range(2):  # a round, and the captions that replace some of it
                with times.phase("generate"):
                    clock[0] += 3
                with times.phase("score"):
                    clock[0] += 1
        clock[0] += 2
    times.finish()
    assert logged == {
        "seconds/round": 8,
        "seconds/generate": 6,
        "seconds/score": 2,
        "seconds/update": 2,
        "outside_model_share": pytest.approx(2 / 10),
    }


def test_a_step_that_learns_from_an_earlier_round(clock):
    logged = {}
    times = StepTimes(logged.__setitem__)
    for _ in range(2):  # micro-batches
        with times.update():
            clock[0] += 2
    times.finish()
    assert logged == {"seconds/update": 4, "outside_model_share": 0}
