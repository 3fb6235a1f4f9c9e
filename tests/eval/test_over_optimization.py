"""When held-out metrics count as worse."""

import pytest

from rlcap.eval.over_optimization import find_alarms, widen_interval


def test_intervals_of_many_metrics_are_wider():
    one = {"mean": 0.2, "low": 0.1, "high": 0.4, "df": 1e6}
    assert widen_interval(one, 1) == pytest.approx({key: one[key] for key in ("mean", "low", "high")})
    # z(1 - .0025) = 2.807, z(.975) = 1.960
    assert widen_interval(one, 10) == pytest.approx(
        {"mean": 0.2, "low": 0.2 - 0.1 * 2.807 / 1.96, "high": 0.2 + 0.2 * 2.807 / 1.96}, abs=1e-4
    )
    # five clusters: t(1 - .0025; 4) = 5.598, t(.975; 4) = 2.776
    few = widen_interval({**one, "df": 4}, 10)
    assert (few["low"], few["high"]) == pytest.approx((0.2 - 0.1 * 5.598 / 2.776, 0.2 + 0.2 * 5.598 / 2.776), abs=1e-4)


def change(**means):
    metrics = {
        name: {"difference": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "df": 1e6}}
        for name, mean in means.items()
    }
    return {"split": "test", "from": 0, "to": 50, "metrics": metrics}


@pytest.mark.parametrize(
    ("means", "worse"),
    [
        ({"hallucination_rate": 0.11}, ["hallucination_rate"]),
        ({"hallucination_rate": 0.09}, []),
        ({"hallucination_rate": -0.11}, []),
        ({"hallucination_rate": 0.11, "fact_recall": 0.0}, []),  # one of two is worse by chance twice as often
        ({"hallucination_rate": 0.12, "fact_recall": 0.0}, ["hallucination_rate"]),
        ({"hallucination_rate": 0.11, "mean_words": -9.0, "distinct_1": 0.0}, ["hallucination_rate"]),  # not watched
    ],
)  # fmt: skip
def test_alarms_allow_for_the_number_of_metrics(monkeypatch, means, worse):
    monkeypatch.setattr("rlcap.eval.over_optimization.risen_terms", lambda rows: ["clip"])
    found = find_alarms([change(**means)], [])
    assert [alarm["worse"] for alarm in found] == ([worse] if worse else [])


def test_a_negligible_loss_of_a_share_raises_no_alarm(monkeypatch):
    monkeypatch.setattr("rlcap.eval.over_optimization.risen_terms", lambda rows: ["clip"])
    for metric, mean, alarmed in (("grammatical", -0.009, 0), ("grammatical", -0.011, 1), ("cider_d", -0.009, 1)):
        difference = {"mean": mean, "low": mean - 0.001, "high": mean + 0.001, "df": 43.0}
        change = {"split": "test", "from": 0, "to": 50, "metrics": {metric: {"difference": difference}}}
        assert len(find_alarms([change], [])) == alarmed


def test_no_alarm_where_no_reward_rose(monkeypatch):
    monkeypatch.setattr("rlcap.eval.over_optimization.risen_terms", lambda rows: [])
    assert find_alarms([change(hallucination_rate=0.5)], []) == []
