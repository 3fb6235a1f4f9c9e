"""An exhausted budget of a judge ends the run with a checkpoint, so that no work is lost."""

from types import SimpleNamespace

from rlcap.train.callbacks import RewardStop


def after_a_step(reason):
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    RewardStop(SimpleNamespace(stop_reason=reason)).on_step_end(
        None, SimpleNamespace(is_world_process_zero=True, global_step=1), control
    )
    return control.should_save, control.should_training_stop


def test_a_run_continues_within_the_budget(capsys):
    assert after_a_step(None) == (False, False)
    assert not capsys.readouterr().out


def test_an_exhausted_budget_saves_a_checkpoint_and_prints_the_reason(capsys):
    assert after_a_step("reward component 'critique': 2 dollars of 2 are spent") == (True, True)
    printed = capsys.readouterr().out
    assert "saving a checkpoint and stopping: reward component 'critique': 2 dollars of 2 are spent; then" in printed
    assert "continue with resume=auto" in printed
