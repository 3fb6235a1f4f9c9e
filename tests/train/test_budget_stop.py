"""A judge's budget that is used up ends the run with a checkpoint, not with a loss."""

from types import SimpleNamespace

from rlcap.train.callbacks import RewardStop


def after_a_step(reason):
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    RewardStop(SimpleNamespace(stop_reason=reason)).on_step_end(
        None, SimpleNamespace(is_world_process_zero=True, global_step=1), control
    )
    return control.should_save, control.should_training_stop


def test_a_run_goes_on_while_there_is_room(capsys):
    assert after_a_step(None) == (False, False)
    assert not capsys.readouterr().out


def test_it_stops_with_a_checkpoint_and_says_why(capsys):
    assert after_a_step("reward component 'critique': 2 dollars of 2 are spent") == (True, True)
    printed = capsys.readouterr().out
    assert "saving a checkpoint and stopping: reward component 'critique': 2 dollars of 2 are spent; then" in printed
    assert "continue with resume=auto" in printed
