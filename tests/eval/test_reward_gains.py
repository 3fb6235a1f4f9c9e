"""When a reward term counts as risen."""

import numpy as np
import pytest

from rlcap.eval.reward_gains import reward_gain, rise_interval, risen_terms, smooth, smoothing_window


def rows(values, spread=1.0):
    return [
        {"step": step, "metrics": {"reward/clip/mean": float(value), "reward/clip/std_within_group": spread}}
        for step, value in enumerate(values)
    ]


def test_the_rise_by_hand():
    # four steps: the start is the first, the end the last; differences 1, -1, 3 have the mean square 11 / 3
    interval = rise_interval(rows([0, 1, 0, 3]), "clip")
    df, variance = 2 * 9 / 8, 11 / 6
    assert interval.mean == 3
    assert interval.df == pytest.approx(df)
    assert interval.high - interval.mean == pytest.approx(3.879 * (2 * variance) ** 0.5, rel=0.01)  # t(.975; 2.25)


def test_the_rise_is_the_end_of_the_smoothed_gain():
    values = rows(np.linspace(0, 2, 60) + np.random.default_rng(0).normal(0, 0.1, 60))
    points = reward_gain(values, "clip")
    assert rise_interval(values, "clip").mean == smooth(points, smoothing_window(points))[-1][1]
    assert risen_terms(values) == ["clip"]


def test_scatter_is_no_rise():
    rng = np.random.default_rng(1)
    values = [rows(rng.normal(0, 1, 48)) for _ in range(400)]
    intervals = [rise_interval(run, "clip") for run in values]
    assert 0.93 <= np.mean([interval.low <= 0 <= interval.high for interval in intervals]) <= 0.97
    assert np.mean([bool(risen_terms(run)) for run in values]) < 0.05


def test_too_few_steps_show_no_rise():
    assert risen_terms(rows([0.0, 5.0])) == []
    assert np.isnan(rise_interval(rows([0.0, 5.0]), "clip").low)
