"""The folder of a run, the checkpoint from which a resumed run continues, and the duration of a run."""

import json
import os
import subprocess
import sys
import time

import pytest

from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import SFTConfig
from rlcap.errors import ConfigError, LockedError
from rlcap.io.atomic import append_rows
from rlcap.io.text import read_log
from rlcap.train.changed_settings import describe_changes
from rlcap.train.checkpoints import (
    STATE,
    delete_old_checkpoints,
    find_damage,
    list_checkpoints,
    read_state,
    step_of,
    write_state,
)
from rlcap.train.clock import Clock
from rlcap.train.run_folder import RunFolder
from rlcap.types import Sample


@pytest.fixture
def folder(tmp_path):
    """Whole checkpoints after steps 4 and 9, and one after 12 that a kill cut short."""
    for step in (4, 9, 12):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
        if step != 12:
            write_state(tmp_path / "checkpoints" / f"checkpoint-{step}", {})
    return RunFolder(tmp_path)


def test_auto_finds_the_newest_complete_checkpoint(folder):
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"


def test_a_run_killed_after_its_last_checkpoint_resumes_from_the_one_before(folder):
    assert folder.checkpoint("auto", 9).name == "checkpoint-4"


def test_a_completed_run_resumes_only_with_more_steps(folder):
    (folder.root / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="has completed its 9 steps"):
        folder.checkpoint("auto", 9)
    assert folder.checkpoint("auto", 10).name == "checkpoint-9"


def test_the_summary_of_a_stopped_session_does_not_end_the_run(folder):
    (folder.root / "summary.json").write_text('{"steps": 6}')  # the next session was killed after its last checkpoint
    assert folder.checkpoint("auto", 9).name == "checkpoint-4"
    (folder.root / "summary.json").write_text('{"steps": 9}')
    with pytest.raises(ConfigError, match="has completed its 9 steps"):
        folder.checkpoint("auto", 9)


def test_a_run_without_a_summary_gets_a_mark_when_it_ends(folder):
    folder.begin(SFTConfig(), {}, 9)
    assert folder.checkpoint("auto", 9).name == "checkpoint-4"
    folder.mark_ended()
    with pytest.raises(ConfigError, match=r"has completed its 9 steps; raise train.steps to continue$"):
        folder.checkpoint("auto", 9)
    assert folder.checkpoint("auto", 10).name == "checkpoint-9"
    folder.begin(SFTConfig(), {}, 9)
    assert folder.checkpoint("auto", 9).name == "checkpoint-4"


def test_files_in_subfolders_of_a_checkpoint_are_checked_too(folder):
    checkpoint = folder.checkpoints / "checkpoint-9"
    (checkpoint / "ref").mkdir()
    (checkpoint / "ref" / "adapter_model.safetensors").write_bytes(b"x" * 10)
    write_state(checkpoint, {})
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"
    (checkpoint / "ref" / "adapter_model.safetensors").write_bytes(b"x" * 3)
    assert folder.checkpoint("auto", 20).name == "checkpoint-4"


def test_an_unusable_checkpoint_is_rejected_with_the_reason(folder):
    with pytest.raises(ConfigError, match="no complete checkpoint before step 3"):
        folder.checkpoint("auto", 3)
    with pytest.raises(ConfigError, match="it lacks rlcap_state"):
        folder.checkpoint(str(folder.checkpoints / "checkpoint-12"), 20)
    with pytest.raises(ConfigError, match="has no step left of 9"):
        folder.checkpoint(str(folder.checkpoints / "checkpoint-9"), 9)


def test_a_checkpoint_with_a_shortened_file_is_skipped(folder):
    whole, cut = (folder.checkpoints / f"checkpoint-{step}" for step in (9, 15))
    cut.mkdir()
    for path in (whole, cut):
        (path / "optimizer.pt").write_bytes(b"x" * 1000)
        write_state(path, {"mix": {}})
    (cut / "optimizer.pt").write_bytes(b"x" * 10)
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"
    with pytest.raises(ConfigError, match=r"its optimizer.pt has 10 of 1,000 bytes"):
        folder.checkpoint(str(cut), 20)
    (cut / STATE).write_text("{")
    with pytest.raises(ConfigError, match=r"rlcap_state.json is not JSON"):
        folder.checkpoint(str(cut), 20)


def test_only_the_same_recipe_seed_and_images_can_resume_a_run(tmp_path):
    rows = {"train": [Sample("a", "a.jpg", ("A dog.",))], "test": [Sample("b", "b.jpg")]}
    RunFolder(tmp_path, "ppo").begin(GRPOConfig(), rows)
    again = RunFolder(tmp_path)
    again.check_same_run("ppo", 0, rows)
    with pytest.raises(ConfigError, match=r"is a run of recipes/ppo.py, this is recipes/grpo.py"):
        again.check_same_run("grpo", 0)
    with pytest.raises(ConfigError, match=r"started with train.seed=0, got 3"):
        again.check_same_run("ppo", 3)
    with pytest.raises(ConfigError, match=r"started with other train images .1 instead of 2"):
        again.check_same_run("ppo", 0, {"train": [*rows["train"], Sample("b", "b.jpg")]})
    with pytest.raises(ConfigError, match=r"started with other test images .1 instead of 1"):
        again.check_same_run("ppo", 0, {**rows, "test": [Sample("c", "c.jpg")]})
    RunFolder(tmp_path / "not there").check_same_run("grpo", 7, rows)


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning(tmp_path):
    (tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)  # cut short
    assert RunFolder(tmp_path).checkpoint("auto", 20) is None
    assert RunFolder(tmp_path / "not there").checkpoint("auto", 20) is None
    assert step_of(None) == -1
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigError, match="has no checkpoint, but the adapter of a completed run"):
        RunFolder(tmp_path).checkpoint("auto", 20)


def test_a_restart_removes_all_logs_of_the_previous_start(folder):
    folder.captions.mkdir()
    for path in (folder.metrics, folder.panel, folder.rollouts(0), folder.rollouts(1)):
        append_rows(path, [{"step": step} for step in (0, 5)])
    for step in (0, 5):
        (folder.captions / f"{step}.jsonl").write_text("{}")
    folder.begin(SFTConfig(), {}, step_of(folder.checkpoints / "checkpoint-4"), seconds_before=3.0)
    assert read_log(folder.panel) == read_log(folder.rollouts(1)) == [{"step": 0}]
    assert [path.name for path in folder.captions.iterdir()] == ["0.jsonl"]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["checkpoint-4"]
    assert json.loads((folder.root / "run.json").read_text())["seconds_before"] == 3.0
    folder.begin(SFTConfig(), {}, step_of(None))
    assert read_log(folder.panel) == read_log(folder.metrics) == read_log(folder.rollouts(1)) == []
    assert not [*folder.captions.iterdir(), *folder.checkpoints.iterdir()]


@pytest.mark.parametrize("trace", ["config.yaml", "metrics.jsonl", "captions", "adapter"])
def test_a_folder_with_a_run_is_rejected(tmp_path, trace):
    assert RunFolder.choose("grpo", None, str(tmp_path)).root == tmp_path
    (tmp_path / trace).mkdir()
    for recipe in ("grpo", "sft"):
        with pytest.raises(
            ConfigError, match=r"already holds a run; choose another output_dir, or continue the run with resume=auto"
        ):
            RunFolder.choose(recipe, None, str(tmp_path))
    assert RunFolder.choose("grpo", None, str(tmp_path), "auto").root == tmp_path


def test_choosing_a_folder_does_not_create_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunFolder.choose("grpo", "mine", None).root.as_posix() == "runs/mine"
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="resume=auto needs the folder of the run: add --output_dir"):
        RunFolder.choose("grpo", None, None, "auto")


@pytest.mark.slow
def test_all_processes_use_the_folder_of_the_main_process(tmp_path):
    script = tmp_path / "choose.py"
    script.write_text(
        "import os, time\n"
        "from accelerate import PartialState\n"
        "from rlcap.train.run_folder import RunFolder\n"
        "PartialState(cpu=True)\n"
        "time.strftime = lambda _: 'second ' + os.environ['RANK']\n"
        "print(RunFolder.choose('sft', None, None).root, flush=True)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.count("runs/sft-second 0") == 2, done.stdout + done.stderr[-2000:]
    assert "second 1" not in done.stdout


def test_the_clock_counts_all_sessions(tmp_path):
    folder = RunFolder(tmp_path)
    clock = Clock(folder, time.monotonic() - 5)
    assert 5 <= clock.seconds() < 6
    folder.begin(SFTConfig(), {}, seconds_before=clock.before)
    append_rows(folder.metrics, [{"step": 1, "seconds": 7.0}, {"step": 2, "seconds": 9.0}])
    second = Clock(folder, time.monotonic() - 2)  # after a kill: what was logged counts, though step 2 is done again
    assert 11 <= second.seconds() < 12
    folder.begin(SFTConfig(), {}, 1, seconds_before=second.before)
    third = Clock(folder, time.monotonic())  # killed before it logged anything
    assert third.before == 9.0
    (tmp_path / "summary.json").write_text('{"seconds": 30.5}')
    assert Clock(folder, time.monotonic()).before == 30.5


def test_the_second_of_two_runs_with_the_same_folder_is_rejected(tmp_path):
    first, second = (RunFolder.choose("grpo", None, str(tmp_path / "run")) for _ in range(2))
    first.begin(GRPOConfig(), {})
    with pytest.raises(ConfigError, match="another run has just started"):
        second.begin(GRPOConfig(), {})


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: flip_bit(path / "adapter_model.safetensors"),
        lambda path: flip_bit(path / "optimizer.pt"),
        lambda path: (path / "optimizer.pt").write_bytes(bytes(100)),
        lambda path: (path / "optimizer.pt").unlink(),
        lambda path: (path / "trainer_state.json").write_text('{"global_step": 999999}'),
        lambda path: (path / "trainer_state.json").write_bytes(b"\xff\xfe{"),
        lambda path: (path / STATE).write_bytes(b""),
        lambda path: (path / STATE).write_bytes(b"\xff\xfe\x00"),
        lambda path: (path / STATE).write_text("{}"),
        lambda path: (path / STATE).write_text("[1]"),
        lambda path: (path / STATE).write_text((path / STATE).read_text().replace("0.25", "0.75")),
        lambda path: (path / STATE).unlink(),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_older_one(folder, harm):
    for step in (4, 9):
        checkpoint = folder.checkpoints / f"checkpoint-{step}"
        (checkpoint / "adapter_model.safetensors").write_bytes(bytes(range(200)))
        (checkpoint / "optimizer.pt").write_bytes(b"x" * 100)
        (checkpoint / "trainer_state.json").write_text(f'{{"global_step": {checkpoint.name.rpartition("-")[2]}}}')
        write_state(checkpoint, {"spent": 0.25})
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"
    assert read_state(folder.checkpoints / "checkpoint-9") == {"spent": 0.25}
    harm(folder.checkpoints / "checkpoint-9")
    again = RunFolder(folder.root)
    assert again.checkpoint("auto", 20).name == "checkpoint-4"
    assert any(line.startswith("passing over checkpoint-9: ") for line in again.passed_over)
    with pytest.raises(ConfigError, match="not a complete checkpoint"):
        again.checkpoint(str(folder.checkpoints / "checkpoint-9"), 20)


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_strangers_in_the_folder_are_ignored(folder):
    folder.captions.mkdir()
    (folder.captions / "notes.jsonl").write_text("mine")
    (folder.captions / "12.jsonl").write_text("{}")
    for name in ("checkpoint-3.bak", "checkpoint-", "checkpoint-x", "tmp-checkpoint-7"):
        (folder.checkpoints / name).mkdir()
    (folder.checkpoints / "checkpoint-77").write_text("a file")
    assert folder.checkpoint("auto", 20).name == "checkpoint-9"
    folder.begin(SFTConfig(), {}, 9)
    assert sorted(path.name for path in folder.captions.iterdir()) == ["notes.jsonl"]
    assert (folder.checkpoints / "checkpoint-3.bak").is_dir()
    assert [step_of(path) for path in list_checkpoints(folder.checkpoints)] == [9, 4]
    with pytest.raises(ConfigError, match="its name must be checkpoint-STEP"):
        folder.checkpoint(str(folder.checkpoints / "checkpoint-3.bak"), 20)


def test_an_old_checkpoint_goes_only_when_the_new_one_is_complete(folder):
    delete_old_checkpoints(folder.checkpoints, keep=1)  # 12 is half-written
    assert [step_of(path) for path in list_checkpoints(folder.checkpoints)] == [12, 9]
    write_state(folder.checkpoints / "checkpoint-12", {})
    delete_old_checkpoints(folder.checkpoints, keep=2)
    assert [step_of(path) for path in list_checkpoints(folder.checkpoints)] == [12, 9]
    delete_old_checkpoints(folder.checkpoints, keep=1)
    assert [step_of(path) for path in list_checkpoints(folder.checkpoints)] == [12]
    assert find_damage(folder.checkpoints / "checkpoint-12") is None


def test_a_cut_last_line_of_the_metrics_is_dropped(folder):
    folder.metrics.write_text('{"step": 1, "seconds": 2.0}\n{"step": 2, "sec')
    assert Clock(folder, time.monotonic()).before == 2.0
    folder.begin(SFTConfig(), {}, 4)
    assert folder.metrics.read_text() == '{"step": 1, "seconds": 2.0}\n'


def test_another_precision_is_refused_on_resume(tmp_path):
    folder = RunFolder(tmp_path)
    folder.check_precision("bf16", "bfloat16")  # a run that did not record it
    folder.begin(SFTConfig(), {}, precision="no", dtype="float32")
    folder.check_precision("no", "float32")
    with pytest.raises(ConfigError, match="started with mixed precision 'no', this session has 'bf16'"):
        folder.check_precision("bf16", "float32")
    with pytest.raises(
        ConfigError, match=r"a base in float32, in this session it is in bfloat16; set model\.dtype=float32"
    ):
        folder.check_precision("no", "bfloat16")


def test_settings_that_change_on_resume_are_told(tmp_path):
    folder = RunFolder(tmp_path)
    assert describe_changes(tmp_path / "config.yaml", SFTConfig()) == []
    folder.begin(SFTConfig(), {})
    values = {"model": {"base": "b"}, "train": {"learning_rate": 0.5}, "resume": "auto", "output_dir": "elsewhere"}
    rate = SFTConfig().train.learning_rate
    changes = describe_changes(tmp_path / "config.yaml", SFTConfig.parse(values))
    assert changes == ["model.base:  → b", f"train.learning_rate: {rate} → 0.5"]


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(tmp_path):
    for step, held in ((2, 2), (5, 2)):
        path = tmp_path / f"checkpoint-{step}"
        path.mkdir()
        (path / "trainer_state.json").write_text(json.dumps({"global_step": held}))
        write_state(path, {})
    assert find_damage(tmp_path / "checkpoint-2") is None
    assert find_damage(tmp_path / "checkpoint-5") == "it holds the state of step 2"


def test_an_output_dir_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="run is a file; name a folder"):
        RunFolder.choose("grpo", None, str(tmp_path / "run"))


HOLD = """
import sys, time
from pathlib import Path
from rlcap.train.run_folder import RunFolder
RunFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_in_use_is_refused(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"the run in .* is in use by process {holder.pid} on "):
            RunFolder(tmp_path).begin(SFTConfig(), {})
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    RunFolder(tmp_path).begin(SFTConfig(), {})
    RunFolder(tmp_path).begin(SFTConfig(), {})  # a later run of the same process
