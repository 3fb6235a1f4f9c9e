"""Supervised recipes resume after a kill or Ctrl-C, and end with the same bytes as an uninterrupted run."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlcap.config.loading import load_config
from rlcap.config.supervised import DPOConfig, SFTConfig
from rlcap.errors import ConfigError
from rlcap.train.dpo import fingerprint, read_pairs
from rlcap.train.open_run import open_run

ROOT = Path(__file__).parents[2]
KINDS = {"sft": SFTConfig, "dpo": DPOConfig}

# 14 rows in steps of 4 make epochs of 4 steps, of which the last has 2 rows. The checkpoint after step 3 lies in the last
# third of the first epoch, and the run goes on into the second epoch.
SMALL = {
    "sft": [
        "train.steps=6", "train.batch_size=4", "train.micro_batch=2", "train.save_every=3", "train.target=references",
        "data.train=14", "data.validation=0",
    ],
    "dpo": [
        "train.steps=6", "train.batch_size=4", "train.micro_batch=2", "train.save_every=3", "data.validation=7",
        "data.test=7", "data.options.prior_breaking=0", "evaluation.every=2",
    ],
}  # fmt: skip

STOPS = """
import os, runpy, signal, sys
from rlcap.train.callbacks import CheckpointState, Interrupt

STOP, recipe = sys.argv[1:3]


def kill(self, args, state, control, **_):
    write(self, args, state, control)
    if state.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def press(self, args, state, control, **_):
    if state.global_step == 2:
        signal.raise_signal(signal.SIGINT)


if STOP == "killed":
    write, CheckpointState.on_save = CheckpointState.on_save, kill
else:
    Interrupt.on_step_begin = press
sys.argv = [recipe, *sys.argv[3:]]
runpy.run_path(recipe, run_name="__main__")
"""
"""Runs a recipe that is killed when its first checkpoint is whole, or told to stop in the midst of its third step."""


def run(*line, cwd=ROOT):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "RLCAP_CACHE": str(CACHE[0])}
    return subprocess.run([sys.executable, *map(str, line)], cwd=cwd, env=environment, capture_output=True, text=True)


CACHE: list[Path] = []


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """14 preference pairs on images of the lab: a sample's text against that of the next one."""
    from rlcap.data.source import instruction_for, load_splits

    CACHE[:] = [tmp_path_factory.mktemp("cache")]
    os.environ["RLCAP_CACHE"] = str(CACHE[0])
    config = load_config(SFTConfig, ROOT / "recipes" / "configs" / "lab_sft.yaml", SMALL["sft"])
    rows = load_splits(config.data)[0]["train"]
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [
        {
            "image": str(Path(row.image).resolve()),
            "prompt": instruction_for(config.data),
            "chosen": row.paragraph,
            "rejected": rows[i - 1].paragraph,
        }
        for i, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module", params=["sft", "dpo"])
def whole(request, pairs, tmp_path_factory):
    """(recipe, its arguments, the folder of a finished run)."""
    recipe = request.param
    arguments = [*SMALL[recipe], *([f"pairs={pairs}"] if recipe == "dpo" else [])]
    folder = tmp_path_factory.mktemp(recipe) / "whole"
    done = run(f"recipes/{recipe}.py", f"--output_dir={folder}", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return recipe, arguments, folder


def tuned(folder):
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def metrics(folder):
    """Step → metrics, without those that depend on the speed of the machine."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], {k: v for k, v in row["metrics"].items() if "time" not in k}) for row in rows]


def settings(recipe, folder, arguments, *more):
    lab = ROOT / "recipes" / "configs" / f"lab_{recipe}.yaml"
    return load_config(KINDS[recipe], lab, [*arguments, f"output_dir={folder}", "resume=auto", *more])


def test_a_run_writes_metrics_and_checkpoints(whole):
    _, _, folder = whole
    assert [step for step, _ in metrics(folder)] == [1, 2, 3, 4, 5, 6]
    assert all(row["loss"] > 0 for _, row in metrics(folder))
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"checkpoint-3", "checkpoint-6"}
    files = json.loads((folder / "checkpoints" / "checkpoint-6" / "rlcap_state.json").read_text())["files"]
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(files)
    assert not (folder / "checkpoints" / "README.md").exists()  # TRL's model card
    assert f"by {whole[0].upper()}" in (folder / "adapter" / "README.md").read_text()  # our own


@pytest.mark.parametrize("stop", ["killed", pytest.param("interrupted", marks=pytest.mark.slow)])
def test_a_stopped_run_resumes_to_the_same_bytes(whole, stop, tmp_path):
    recipe, arguments, straight = whole
    (tmp_path / "stops.py").write_text(STOPS)
    folder = tmp_path / "run"
    line = [f"recipes/{recipe}.py", f"--output_dir={folder}", *arguments]
    stopped = run(tmp_path / "stops.py", stop, *line)
    checkpoint = folder / "checkpoints" / "checkpoint-3"
    assert (checkpoint / "rlcap_state.json").exists()
    assert not (folder / "checkpoints" / "checkpoint-6").exists()
    if stop == "killed":
        assert stopped.returncode < 0
        assert not (folder / "adapter").exists()
        # the kill came while a later checkpoint was written
        shutil.copytree(checkpoint, checkpoint.with_name("checkpoint-5"))
        (checkpoint.with_name("checkpoint-5") / "optimizer.pt").write_bytes(b"cut short")
    else:
        assert stopped.returncode == 0, stopped.stderr[-3000:]
        assert f"stopped after step 3 of 6; the same command with --output_dir {folder} resume=auto" in stopped.stdout
    with pytest.raises(ConfigError, match=r"already holds a run.*resume=auto"):
        open_run(settings(recipe, folder, arguments, "resume=null"), recipe, time.monotonic())
    resumed = run(*line, "resume=auto")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert f"resuming from {checkpoint}" in resumed.stdout
    assert tuned(folder) == tuned(straight)
    assert metrics(folder) == metrics(straight)
    for path in (straight / "captions").iterdir():
        assert path.read_text() == (folder / "captions" / path.name).read_text()


def test_an_impossible_resume_is_rejected(whole, pairs, tmp_path):
    recipe, arguments, straight = whole
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ConfigError, match="has completed its 6 steps"):
        open_run(settings(recipe, straight, arguments), recipe, time.monotonic())
    more = "train.steps=8"
    with pytest.raises(ConfigError, match=f"is a run of recipes/{recipe}.py, this is recipes/grpo.py"):
        open_run(settings(recipe, straight, arguments, more), "grpo", time.monotonic())
    with pytest.raises(ConfigError, match=r"started with train.seed=0, got 3"):
        open_run(settings(recipe, straight, arguments, more, "train.seed=3"), recipe, time.monotonic())
    other = "data.train=12" if recipe == "sft" else "data.test=6"
    opened = open_run(settings(recipe, straight, arguments, more, other), recipe, time.monotonic())
    assert opened.checkpoint.name == "checkpoint-6"
    with pytest.raises(ConfigError, match=r"was started with other .* images"):
        opened.load_data()
    if recipe == "dpo":
        rows = read_pairs(pairs)
        opened.folder.check_same_run("dpo", 0, pairs_fingerprint=fingerprint(rows))
        with pytest.raises(ConfigError, match="was started with other pairs"):
            opened.folder.check_same_run("dpo", 0, pairs_fingerprint=fingerprint(rows[::-1]))
    cut = tmp_path / "checkpoint-3"
    shutil.copytree(straight / "checkpoints" / "checkpoint-3", cut)
    (cut / "optimizer.pt").write_bytes(b"cut short")
    with pytest.raises(ConfigError, match=r"not a complete checkpoint .its optimizer.pt has 9 of"):
        open_run(settings(recipe, straight, arguments, f"resume={cut}"), recipe, time.monotonic())
    assert before == {
        path: path.read_bytes() for path in straight.rglob("*") if path.is_file() and path.name != ".lock"
    }
