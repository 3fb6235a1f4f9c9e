"""The PPO recipe as a user runs it: to its end, killed and resumed, on two processes, and with invalid settings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killed_run import kill_at_checkpoint
from safetensors.torch import load_file

from rlcap.io.addresses import resolve_address

ROOT = Path(__file__).parents[2]
SMALL = [
    "train.steps=8", "train.images_per_step=2", "train.minibatches=2", "train.captions_per_image=4", "train.micro_batch=4",
    "train.save_every=4", "train.kl_target=1.0", "data.train=9", "data.validation=7", "data.test=14",
    "data.options.prior_breaking=7", "evaluation.every=4", "evaluation.panel=2", "generation.max_new_tokens=24",
]  # fmt: skip


def command(output, *more):
    return [sys.executable, "recipes/ppo.py", f"--output_dir={output}", *SMALL, *more]


def environment(tmp):
    return {**os.environ, "RLCAP_CACHE": str(tmp / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run: rounds of four images, gone through twice in two minibatches; nine images are two epochs' rounds."""
    tmp = tmp_path_factory.mktemp("ppo")
    done = subprocess.run(command(tmp / "whole"), cwd=ROOT, env=environment(tmp), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "parameters of the value model are trained" in done.stdout
    return tmp / "whole"


def adapter(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_a_run_writes_the_same_files_as_grpo(whole):
    for name in ("config.yaml", "run.json", "metrics.jsonl", "summary.json", "report.html", "rollouts.jsonl"):
        assert (whole / name).stat().st_size > 0, name
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert {
        "value/loss", "value/explained_variance", "value/grad_norm", "kl/caption", "kl/coefficient", "reward/total",
        "seconds/values", "reward/listener/mean", "reward/listener/std_within_group", "stage/bag_size",
    } <= set(rows[0]["metrics"])  # fmt: skip
    written = [json.loads(line)["step"] for line in (whole / "rollouts.jsonl").read_text().splitlines()]
    assert written == [1] * 16 + [5] * 16, "a round every four steps"
    assert rows[4]["metrics"]["kl/coefficient"] != rows[0]["metrics"]["kl/coefficient"]


def test_the_saved_adapter_contains_the_policy_only_and_loads_in_plain_peft(whole):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    from rlcap.io.addresses import resolve_address

    base = AutoModelForImageTextToText.from_pretrained(resolve_address("lab:captioner"), dtype="float32")
    tuned = PeftModel.from_pretrained(base, whole / "adapter")
    assert list(tuned.peft_config) == ["default"]
    assert [path.name for path in sorted((whole / "adapter").iterdir())] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    start, end = load_file(Path(resolve_address("lab:adapter")) / "adapter_model.safetensors"), adapter(whole)
    assert start.keys() == end.keys()
    assert any(not start[name].float().equal(end[name].float()) for name in start)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path):
    output = tmp_path / "killed"
    checkpoint = kill_at_checkpoint(command(output), ROOT, environment(whole.parent), output, 4)
    assert (checkpoint / "value_model.safetensors").exists()
    done = subprocess.run(
        command(output, "resume=auto"), cwd=ROOT, env=environment(whole.parent), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends = [folder / "checkpoints" / "checkpoint-8" for folder in (whole, output)]
    for pair in (
        [adapter(folder) for folder in (whole, output)],
        [load_file(end / "value_model.safetensors") for end in ends],
    ):
        assert pair[0].keys() == pair[1].keys()
        for name in pair[0]:
            assert pair[0][name].equal(pair[1][name]), name
    assert (whole / "rollouts.jsonl").read_text() == (output / "rollouts.jsonl").read_text()
    assert (whole / "captions" / "8.jsonl").read_text() == (output / "captions" / "8.jsonl").read_text()
    kept = [json.loads((end / "rlcap_state.json").read_text()) for end in ends]
    for one in kept:
        one["mix"].pop("guard")  # holds seconds
        one.pop("files")  # sizes, among them of files that hold seconds
    assert kept[0] == kept[1]
    assert kept[0]["kl"]["coefficient"] != 0.01


@pytest.mark.slow
def test_two_processes_give_the_same_result_as_one(whole, tmp_path):
    output = tmp_path / "two"
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "launch/accelerate/ddp.yaml",
         *command(output, "data.test=0", "data.options.prior_breaking=0", "train.micro_batch=4")[1:]],
        cwd=ROOT, env=environment(whole.parent), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    alone, together = ([], [])
    for found, folder in ((alone, whole), (together, output)):
        for path in folder.glob("rollouts*.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found += [(row["sample_id"], row["caption"], row["advantage"]) for row in rows if row["step"] == 1]
    assert len(together) == len(alone) == 16
    for one, other in zip(sorted(alone), sorted(together), strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], abs=1e-4)
    start = load_file(Path(resolve_address("lab:adapter")) / "adapter_model.safetensors")
    # After the first round: a rounding may turn a word of the second, and what follows is another run then.
    one, two = (load_file(f / "checkpoints" / "checkpoint-4" / "adapter_model.safetensors") for f in (whole, output))
    moved = max(float((one[name] - start[name].float()).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 1e-3
    assert apart < 0.01 * moved


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.lamb=0.9", "did you mean train.lam"),
        ("train.lam=1.5", "train.lam: input should be less than or equal to 1, got 1.5"),
        ("train.kl=sequence", "known: token, loss"),
        ("train.aggregate=sum_minus_greedy", "PPO compares with its value model"),
        ("train.value_clip=0", "train.value_clip: input should be greater than 0, got 0"),
    ],
)
def test_invalid_settings_are_rejected_without_delay(argument, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "recipes/ppo.py", argument],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.slow
def test_a_policy_without_an_adapter_gives_a_one_line_error(tmp_path):
    done = subprocess.run(
        command(tmp_path / "full", "model.adapter=null", "model.trainable=full"),
        cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "model.trainable=full freezes nothing" in done.stderr
    assert "Traceback" not in done.stderr
