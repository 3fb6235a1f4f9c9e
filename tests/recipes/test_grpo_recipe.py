"""The GRPO recipe as a user runs it: to its end, killed and resumed, interrupted, and with a typo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_run import kill_at_checkpoint
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SMALL = [
    "train.steps=4",
    "train.images_per_step=2",
    "train.captions_per_image=4",
    "train.micro_batch=8",
    "train.save_every=2",
    "data.train=5",
    "data.validation=7",
    "data.test=14",
    "data.options.prior_breaking=7",
    "evaluation.every=2",
    "evaluation.panel=2",
]


def command(output: Path, *more: str) -> list[str]:
    return [sys.executable, "recipes/grpo.py", f"--output_dir={output}", *SMALL, *more]


def environment(tmp: Path) -> dict[str, str]:
    return {**os.environ, "RLCAP_CACHE": str(tmp / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(line: list[str], tmp: Path) -> subprocess.CompletedProcess:
    return subprocess.run(line, cwd=ROOT, env=environment(tmp), capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run. Five images and two a step: it goes through two epochs."""
    tmp = tmp_path_factory.mktemp("grpo")
    output = tmp / "whole"
    done = subprocess.run(command(output), cwd=ROOT, env=environment(tmp), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def weights(folder: Path) -> dict:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_a_run_writes_all_documented_files(whole):
    for name in (
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "rollouts.jsonl",
        "panel.jsonl",
        "adapter/README.md",
    ):
        assert (whole / name).stat().st_size > 0, name
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["schema"] == 2
    assert summary["steps"] == 4
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert (
        summary["seconds"] > rows[-1]["seconds"] > 2
    )  # the last evaluation comes after the last step; imports take seconds
    read = {(e["step"], e["split"]): e for e in summary["evaluations"]}
    assert {(0, "test"), (4, "test"), (2, "validation"), (4, "prior_breaking")} <= set(read)
    assert read[0, "test"]["n"] == 14
    wanted = {"bag5_recall_at_1", "hallucination_rate", "fact_recall", "mean_words", "repetition"}
    assert wanted <= set(read[4, "test"]["metrics"])
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {
        "reward/self_retrieval/mean",
        "reward/listener/std_within_group",
        "zero_variance_groups",
        "stage/bag_size",
    } <= set(rows[0]["metrics"])
    for row in rows:
        seconds = {
            name.removeprefix("seconds/"): v for name, v in row["metrics"].items() if name.startswith("seconds/")
        }
        assert {"generate", "score", "reference", "update", "round"} <= set(seconds)
        assert seconds["generate"] + seconds["score"] + seconds["reference"] <= seconds["round"]
        assert 0 < row["metrics"]["outside_model_share"] < 1
    captions = [json.loads(line) for line in (whole / "captions" / "0.jsonl").read_text().splitlines()]
    assert {"sample_id", "image", "caption"} <= set(captions[0])


def test_rollouts_keep_scores_and_what_rewards_say_of_words(whole):
    rows = [json.loads(line) for line in (whole / "rollouts.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 2 * 4
    assert all(row["spans"]["listener"] for row in rows if row["caption"])
    groups = {}
    for row in rows:
        groups.setdefault((row["step"], row["sample_id"]), []).append(row["advantage"])
    assert all(abs(sum(values)) < 1e-4 for values in groups.values())


def test_advantages_can_be_computed_again(whole, capsys):
    from rlcap.cli import main as cli

    for row in range(1, 9):
        assert cli.main(["explain", str(whole), "--step", "2", "--row", str(row)]) == 0
        assert ", the same" in capsys.readouterr().out


def test_the_saved_adapter_loads_in_plain_peft(whole):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    from rlcap.io.addresses import resolve_address

    base = AutoModelForImageTextToText.from_pretrained(resolve_address("lab:captioner"), dtype="float32")
    tuned = PeftModel.from_pretrained(base, whole / "adapter")
    assert list(tuned.peft_config) == ["default"]
    start, end = load_file(Path(resolve_address("lab:adapter")) / "adapter_model.safetensors"), weights(whole)
    assert start.keys() == end.keys()
    assert any(not start[name].float().equal(end[name].float()) for name in start)


def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path):
    output = tmp_path / "killed"
    kill_at_checkpoint(command(output), ROOT, environment(whole.parent), output, 2)
    done = subprocess.run(
        command(output, "resume=auto"), cwd=ROOT, env=environment(whole.parent), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    straight, resumed = weights(whole), weights(output)
    assert straight.keys() == resumed.keys()
    for name in straight:
        assert straight[name].equal(resumed[name]), name
    for name in ("rollouts.jsonl",):
        assert (whole / name).read_text() == (output / name).read_text()
    assert (whole / "captions" / "4.jsonl").read_text() == (output / "captions" / "4.jsonl").read_text()


@pytest.mark.slow
def test_a_run_killed_before_its_first_checkpoint_restarts_in_its_folder(whole, tmp_path):
    output = tmp_path / "early"
    process = subprocess.Popen(
        command(output, "train.save_every=4"), cwd=ROOT, env=environment(whole.parent), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.time() + 240
    while not (output / "metrics.jsonl").exists():
        assert process.poll() is None, "the run ended before its first step"
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((output / "checkpoints").glob("*/rlcap_state.json"))
    spent = json.loads((output / "metrics.jsonl").read_text().splitlines()[0])["seconds"]
    start = time.monotonic()
    done = run(command(output, "train.save_every=4", "resume=auto"), whole.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resuming from the beginning, because there is no complete checkpoint yet" in done.stdout
    straight, resumed = weights(whole), weights(output)
    assert all(straight[name].equal(resumed[name]) for name in straight)
    for name in ("rollouts.jsonl", "panel.jsonl"):
        assert (whole / name).read_text() == (output / name).read_text()
    seconds = json.loads((output / "summary.json").read_text())["seconds"]
    assert spent < json.loads((output / "run.json").read_text())["seconds_before"] + 0.1 < seconds
    assert seconds < spent + time.monotonic() - start + 5


@pytest.mark.slow
def test_a_failed_resume_leaves_the_folder_unchanged(whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = run(command(whole, "resume=auto", "train.steps=6", "mix.style=null"), whole.parent)
    assert done.returncode != 0
    assert "does not match the configured mix" in done.stderr
    assert "Traceback" not in done.stderr
    assert before == {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["grpo", "sft"])
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.source=nothing.jsonl", "error: data source nothing.jsonl does not exist"),
        ("model.adapter=/nowhere", "error: model.adapter '/nowhere': there is no such file or folder"),
    ],
)
def test_a_failed_start_leaves_no_folder(recipe, argument, message, tmp_path):
    small = ["data.train=7", "data.validation=7", "data.test=0", "data.options.prior_breaking=0"]
    line = [sys.executable, f"recipes/{recipe}.py", f"--output_dir={tmp_path / 'out'}", *small, argument]
    done = run(line, tmp_path)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_sft_does_not_overwrite_an_earlier_run(tmp_path):
    small = ["train.steps=1", "train.batch_size=2", "train.micro_batch=2", "data.train=7", "data.validation=0"]
    line = [sys.executable, "recipes/sft.py", f"--output_dir={tmp_path / 'sft'}", *small]
    done = run(line, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    adapter = tmp_path / "sft" / "adapter" / "adapter_model.safetensors"
    before = adapter.read_bytes()
    done = run(line, tmp_path)
    assert done.returncode != 0
    assert "already holds a run; choose another output_dir, or continue the run with resume=auto" in done.stderr
    assert adapter.read_bytes() == before


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_a_report(whole, tmp_path):
    output = tmp_path / "stopped"
    process = subprocess.Popen(
        command(output, "train.steps=500", "train.save_every=400"), cwd=ROOT, env=environment(whole.parent),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.time() + 240
    while not (output / "metrics.jsonl").exists():
        assert process.poll() is None, process.stdout.read()[-3000:]
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed[-3000:]
    assert list((output / "checkpoints").glob("checkpoint-*/rlcap_state.json"))
    assert (output / "adapter" / "adapter_model.safetensors").exists()
    assert (output / "report.html").exists()
    stopped_at = json.loads((output / "summary.json").read_text())["steps"]
    more = f"train.steps={stopped_at + 1}"
    done = run(command(output, more, "train.save_every=400", "resume=auto"), whole.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"resuming from {output}/checkpoints/checkpoint-{stopped_at}" in done.stdout
    assert json.loads((output / "summary.json").read_text())["steps"] == stopped_at + 1


@pytest.mark.slow
def test_a_second_run_does_not_overwrite_the_first(whole):
    done = subprocess.run(command(whole), cwd=ROOT, env=environment(whole.parent), capture_output=True, text=True)
    assert done.returncode != 0
    assert "already holds a run" in done.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.step=3", "did you mean train.steps"),
        ("train.steps=many", "train.steps: input should be a valid integer, got 'many'"),
        ("evaluation.retriever=local-dir:lab:retriever", "evaluate with another model"),
    ],
)
def test_a_typo_gives_an_error_without_delay(argument, message, tmp_path):
    start = time.time()
    done = subprocess.run(
        [sys.executable, "recipes/grpo.py", argument],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert time.time() - start < 10
