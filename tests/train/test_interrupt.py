"""Ctrl-C ends a run after the present step, and a signal from the launcher does not count as a second Ctrl-C."""

import signal
from types import SimpleNamespace

import pytest

from rlcap.train.callbacks import Interrupt


@pytest.fixture
def interrupt():
    callback, before = Interrupt(), signal.getsignal(signal.SIGINT)
    callback.on_train_begin(None, None, None)
    yield callback
    callback.on_train_end(None, None, None)
    assert signal.getsignal(signal.SIGINT) is before


def stops(callback, step=1):
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    callback.on_step_end(None, SimpleNamespace(global_step=step), control)
    return control.should_save and control.should_training_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_after_the_step(interrupt, number, capsys):
    assert not stops(interrupt)
    signal.raise_signal(number)
    assert stops(interrupt)
    assert "press Ctrl-C again to stop immediately" in capsys.readouterr().out


def test_signals_of_the_launcher_do_not_interrupt_the_step(interrupt):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)
    assert stops(interrupt)


def test_a_run_stops_only_after_the_last_step_of_a_round(interrupt):
    interrupt.steps = 3
    signal.raise_signal(signal.SIGINT)
    assert [step for step in range(1, 7) if stops(interrupt, step)] == [3, 6]


def test_a_second_ctrl_c_stops_immediately(interrupt, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    signal.raise_signal(signal.SIGINT)
    now[0] += 1.5
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
