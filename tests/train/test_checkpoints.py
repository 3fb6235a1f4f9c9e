"""Which checkpoint a resumed run goes on from."""

import pytest

from rlcap.train.run_folder import STATE, RunFolder
from rlcap.types import ConfigError


@pytest.fixture
def folder(tmp_path):
    """Whole checkpoints after steps 4 and 9, and one after 12 that a kill cut short."""
    for step in (4, 9, 12):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        if step != 12:
            (tmp_path / "checkpoints" / f"checkpoint-{step}" / STATE).write_text("{}")
    return RunFolder(tmp_path)


def test_auto_takes_the_newest_whole_one(folder):
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"


def test_a_run_killed_after_its_last_checkpoint_comes_to_its_end_again(folder):
    assert folder.checkpoint("auto", 9).name == "checkpoint-4"


def test_a_run_that_has_ended_is_left_alone_until_it_gets_more_steps(folder):
    (folder.root / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="has ended after its 9 steps"):
        folder.checkpoint("auto", 9)
    assert folder.checkpoint("auto", 10).name == "checkpoint-9"


def test_what_can_not_be_gone_on_from_is_named(folder):
    with pytest.raises(ConfigError, match="no whole checkpoint before step 3"):
        folder.checkpoint("auto", 3)
    with pytest.raises(ConfigError, match="it lacks rlcap_state"):
        folder.checkpoint(str(folder.checkpoints / "checkpoint-12"), 20)
    with pytest.raises(ConfigError, match="past the last of 9 steps"):
        folder.checkpoint(str(folder.checkpoints / "checkpoint-9"), 9)
