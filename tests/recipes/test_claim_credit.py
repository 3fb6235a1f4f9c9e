"""Credit to claims as a user runs it: GRPO and PPO with an oracle's critique, and a listener that shares the trained captioner's base."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    "train.credit=claim",
    "data.train=5",
    "data.validation=0",
    "data.test=7",
    "data.options.prior_breaking=0",
    "evaluation.every=10",
    "evaluation.panel=0",
    "mix.listener.reward=listener",
    "mix.listener.credit_share=0.5",
]


def command(output: Path, recipe: str = "grpo", *more: str) -> list[str]:
    config = "--config=recipes/configs/lab_oracle.yaml"
    return [sys.executable, f"recipes/{recipe}.py", f"--output_dir={output}", config, *SMALL, *more]


def environment(tmp: Path) -> dict[str, str]:
    return {**os.environ, "RLCAP_CACHE": str(tmp / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(line: list[str], tmp: Path) -> None:
    done = subprocess.run(line, cwd=ROOT, env=environment(tmp), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder: Path) -> dict:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    tmp = tmp_path_factory.mktemp("credit")
    run(command(tmp / "whole"), tmp)
    return tmp / "whole"


def rollouts(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def test_rollouts_say_what_each_reward_said_of_which_words(whole):
    rows = rollouts(whole)
    assert len(rows) == 32
    for row in rows:
        assert Path(row["image"]).is_file()
        for spans in row["spans"].values():
            assert all(0 <= start < end <= len(row["caption"]) for start, end, _, _ in spans)
        if row["caption"]:
            covered = sum(end - start for start, end, _, _ in row["spans"]["listener"])
            assert covered >= len(row["caption"].replace(" ", ""))
    wrong = [row for row in rows if "<wrong>\nnone" not in row["notes"]["critique"]]
    assert wrong
    assert all(row["spans"]["critique"] for row in wrong)
    metrics = [json.loads(line)["metrics"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(row["credit/listener/std"] > 0 and row["reward/listener/passes"] > 0 for row in metrics)


def test_advantages_of_captions_can_be_computed_again(whole, capsys):
    from rlcap.cli import main as cli

    assert cli.main(["explain", str(whole), "--step", "2", "--row", "3"]) == 0
    assert ", the same" in capsys.readouterr().out


def test_a_killed_run_resumes_to_the_same_bits(whole, tmp_path):
    output = tmp_path / "killed"
    kill_at_checkpoint(command(output), ROOT, environment(whole.parent), output, 2)
    run([*command(output), "resume=auto"], whole.parent)
    straight, resumed = weights(whole), weights(output)
    assert all(straight[name].equal(resumed[name]) for name in straight)
    assert (whole / "rollouts.jsonl").read_text() == (output / "rollouts.jsonl").read_text()


def test_credit_changes_the_update_and_a_share_of_zero_does_not(whole, tmp_path):
    shared = [
        "train.steps=2", "train.credit_share=0", "mix.listener.credit_share=0", "mix.hallucination.credit_share=0",
    ]  # fmt: skip
    run(command(tmp_path / "zero", "grpo", *shared), whole.parent)
    run(command(tmp_path / "caption", "grpo", "train.steps=2", "train.credit=caption"), whole.parent)
    zero, caption = weights(tmp_path / "zero"), weights(tmp_path / "caption")
    assert all(zero[name].equal(caption[name]) for name in zero)
    assert rollouts(whole)[:8] == rollouts(tmp_path / "zero")[:8]  # the first round does not depend on credit
    assert any(not zero[name].equal(weights(whole)[name]) for name in zero)


@pytest.mark.parametrize("aggregate", ["sum_then_leave_one_out", "sum_minus_running_mean", "sum_minus_greedy"])
@pytest.mark.slow
def test_every_formula_trains(whole, tmp_path, aggregate):
    run(command(tmp_path / "run", "grpo", "train.steps=2", f"train.aggregate={aggregate}"), whole.parent)


def test_ppo_trains_with_credit(whole, tmp_path):
    run(command(tmp_path / "ppo", "ppo", "train.steps=2", "train.iterations=1"), whole.parent)
    assert rollouts(tmp_path / "ppo")[0]["spans"]["listener"]


@pytest.mark.slow
def test_two_processes_give_the_same_advantages_as_one(whole, tmp_path):
    launch = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", "launch/accelerate/ddp.yaml",
        *command(tmp_path / "two", "grpo", "train.micro_batch=4")[1:],
    ]  # fmt: skip
    run(launch, whole.parent)
    together = [
        json.loads(line)
        for path in (tmp_path / "two").glob("rollouts*.jsonl")
        for line in path.read_text().splitlines()
    ]
    first = {(row["sample_id"], row["caption"]): row for row in together if row["step"] == 1}
    for row in rollouts(whole)[:8]:
        other = first[row["sample_id"], row["caption"]]
        assert other["advantage"] == pytest.approx(row["advantage"], abs=1e-4)
