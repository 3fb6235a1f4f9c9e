"""The launch configs are what accelerate and W&B read; one step of the main job runs under each that a CPU can try."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.io.addresses import resolve_address
from rlcap.lab.assets import ASSETS, NAMES
from rlcap.policy.processor import load_processor

ROOT = Path(__file__).parents[1]
ACCELERATE = ROOT / "launch" / "accelerate"
SWEEP = ROOT / "launch" / "sweeps" / "mix_weights.yaml"
CONFIGS = {"cpu": 1, "single": 1, "ddp": 2, "zero2": 2, "zero3": 2, "zero3_offload": 2}
SLURM = ROOT / "launch" / "slurm"
ONE_STEP = [
    "train.steps=1", "data.train=14", "data.validation=7", "data.test=0", "data.options.prior_breaking=0", "train.images_per_step=2",
    "train.captions_per_image=4", "train.micro_batch=4", "generation.max_new_tokens=12", "evaluation.panel=2",
]  # fmt: skip


def test_every_config_has_a_test():
    assert {path.stem for path in ACCELERATE.glob("*.yaml")} == set(CONFIGS)


@pytest.mark.parametrize(("name", "processes"), CONFIGS.items())
def test_accelerate_reads_the_config(name, processes):
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(ACCELERATE / f"{name}.yaml"))
    assert config.num_processes == processes
    assert config.use_cpu == (name == "cpu")
    kinds = {"ddp": DistributedType.MULTI_GPU, "zero": DistributedType.DEEPSPEED}
    assert config.distributed_type == kinds.get(name.partition("_")[0].rstrip("23"), DistributedType.NO)
    if name.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(name[4])
        assert (config.deepspeed_config["offload_param_device"] == "cpu") == name.endswith("_offload")
    head = (ACCELERATE / f"{name}.yaml").read_text().splitlines()
    assert any(f"--config_file launch/accelerate/{name}.yaml" in line for line in head[:3])


@pytest.mark.parametrize("script", sorted(SLURM.glob("*.sbatch")), ids=lambda path: path.stem)
def test_a_slurm_script_is_valid_and_says_how_to_use_it(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    text = script.read_text()
    assert f"sbatch launch/slurm/{script.name}" in text or f"launch/slurm/{script.name} " in text
    directives = [line.split()[1].partition("=")[0] for line in text.splitlines() if line.startswith("#SBATCH")]
    known = {
        "job-name",
        "nodes",
        "ntasks",
        "gpus-per-node",
        "cpus-per-task",
        "mem",
        "time",
        "requeue",
        "open-mode",
        "output",
        "signal",
    }
    assert {directive.removeprefix("--") for directive in directives} <= known
    done = subprocess.run(["bash", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "usage: sbatch" in done.stderr


@pytest.mark.parametrize(
    ("exit_code", "seconds_left", "requeued", "expected"), [(1, 60, True, 0), (1, 4000, False, 1), (0, 60, False, 0)]
)
def test_a_slurm_run_that_its_time_limit_stopped_is_queued_again(exit_code, seconds_left, requeued, expected, tmp_path):
    """With stand-ins for srun and scontrol. A run that failed for another reason is not started again and again."""
    for name, code in {"srun": exit_code, "scontrol": 0}.items():
        (tmp_path / name).write_text(f'#!/usr/bin/env bash\necho "$@" >> {tmp_path}/calls\nexit {code}\n')
        (tmp_path / name).chmod(0o755)
    variables = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_JOB_END_TIME": str(int(time.time()) + seconds_left),
    }
    script = ["bash", SLURM / "train.sbatch", "recipes/grpo.py"]
    refused = subprocess.run(script, env=variables, capture_output=True, text=True)
    assert (refused.returncode, "name output_dir" in refused.stderr) == (2, True)
    assert subprocess.run([*script, "output_dir=runs/a"], env=variables).returncode == expected
    told, *more = (tmp_path / "calls").read_text().splitlines()
    assert "launch/accelerate/ddp.yaml --num_processes 4 recipes/grpo.py output_dir=runs/a resume=auto" in told
    assert more == (["requeue 7"] if requeued else [])


def commands(count):
    """Command lines as W&B's agent makes them from the sweep, with `count` different draws of its parameters."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text())
    for draw in range(count):
        args = {}
        for name, space in sweep["parameters"].items():
            if "values" in space:
                args[name] = {"value": space["values"][draw % len(space["values"])]}
            else:
                args[name] = {"value": space["min"] + (space["max"] - space["min"]) * draw / max(count - 1, 1)}
        flags = create_sweep_command_args({"args": args})["args"]
        line = []
        for word in create_sweep_command(list(sweep["command"])):
            # What the agent's own template of a run does with these two.
            line += flags if word == "${args}" else [sweep["program"] if word == "${program}" else word]
        yield line


def test_every_sample_of_the_sweep_is_a_valid_config():
    for line in commands(5):
        assert line[:3] == ["accelerate", "launch", "recipes/grpo.py"]
        config = load_config(GRPOConfig, ROOT / "recipes" / "configs" / "lab.yaml", line[3:])
        assert config.report_to == ["wandb"]
        assert config.data.validation > 100
    most = yaml.safe_load(SWEEP.read_text())["parameters"]["mix.listener.weight"]["max"]  # of the last draw
    assert config.mix["listener"].weight == most
    assert config.mix["listener"].reward == "listener"


def test_the_sweep_optimises_a_logged_held_out_metric():
    from rlcap.train.result_tables import objective

    sweep = yaml.safe_load(SWEEP.read_text())
    split, name = sweep["metric"]["name"].split("/")
    assert (split, sweep["metric"]["goal"]) == ("validation", "maximize")
    assert name == objective.__name__
    assert not any(
        key.startswith(("evaluation.", "data.")) for key in sweep["parameters"]
    )  # the models of the held-out metrics are no parameters of the sweep
    lab = yaml.safe_load((ROOT / "recipes" / "configs" / "lab.yaml").read_text())
    swept = {key.split(".")[1] for key in sweep["parameters"] if key.startswith("mix.")}
    assert swept <= set(lab["mix"])


def assets():
    for name in NAMES:
        if not (ASSETS / name).is_dir():
            pytest.skip(f"lab asset {name} is not built: rlcap lab build")


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def launch(config, out, *more, recipe="grpo", **variables):
    assets()
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ACCELERATE / config)]
    return subprocess.run(
        [*command, f"recipes/{recipe}.py", "--output_dir", str(out), *more],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        pytest.param("ddp.yaml", {}, id="ddp", marks=pytest.mark.slow),  # below, beside one process
        pytest.param("zero2.yaml", {"DS_ACCELERATOR": "cpu"}, id="zero2", marks=pytest.mark.slow),
        pytest.param("zero3.yaml", {"DS_ACCELERATOR": "cpu"}, id="zero3", marks=pytest.mark.slow),
    ],
)
def test_one_step_of_the_main_job_on_two_processes(config, variables, tmp_path):
    if "DS_ACCELERATOR" in variables:
        pytest.importorskip("deepspeed", reason='DeepSpeed is not installed: pip install -e ".[deepspeed]"')
    done = launch(config, tmp_path / "run", *ONE_STEP, **variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # Two processes that know of each other: the work is shared, and told once.
    assert done.stdout.count("on 2 processes: 1 images, 4 captions each") == 1
    ranks = [
        [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]
        for name in ("rollouts.jsonl", "rollouts-1.jsonl")
    ]
    assert [len(rows) for rows in ranks] == [4, 4]
    images = [{row["sample_id"] for row in rows} for rows in ranks]
    assert len(images[0] | images[1]) == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 1
    assert [(e["step"], e["split"], e["n"]) for e in summary["evaluations"]] == [
        (0, "validation", 7),
        (1, "validation", 7),
    ]
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_size > 1000
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["lora-language", "full"])
def test_sft_saves_weights_that_zero3_has_sharded(trainable, tmp_path):
    """Whole weights, on one process, that another program loads; and they have been trained."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    pytest.importorskip("deepspeed", reason='DeepSpeed is not installed: pip install -e ".[deepspeed]"')
    small = ["train.steps=2", "train.batch_size=4", "train.micro_batch=2", "data.train=8", "data.validation=0"]
    line = [*small, f"model.trainable={trainable}"]
    done = launch("zero3.yaml", tmp_path / "run", *line, recipe="sft", DS_ACCELERATOR="cpu")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    base = AutoModelForImageTextToText.from_pretrained(resolve_address("lab:captioner"))
    saved = tmp_path / "run" / "adapter"
    if trainable == "full":
        load_processor(str(saved))  # it is to be somebody's `model.base`
        found, before = AutoModelForImageTextToText.from_pretrained(saved).state_dict(), base.state_dict()
    else:
        found = {name: p for name, p in PeftModel.from_pretrained(base, saved).state_dict().items() if "lora_B" in name}
        before = {name: torch.zeros_like(p) for name, p in found.items()}  # as a fresh LoRA begins
    assert found
    assert {name: p.shape for name, p in found.items()} == {name: before[name].shape for name in found}
    assert any(not p.equal(before[name]) for name, p in found.items())
    written = {name: p for name, p in found.items() if "language_model" in name}  # (a tower's statistics move by more)
    assert written
    assert all((p - before[name]).abs().max() < 0.05 for name, p in written.items()), (
        "two small steps from where it began"
    )


FORKED = """
import os
import runpy
import socket
import sys

from rlcap.train.process import prepare

prepare()
import open_clip, rlcap.train.grpo, rlcap.train.run_context  # once for all three


def start(rank, world, port, line):
    child = os.fork()
    if child:
        return child
    if world > 1:  # as accelerate launch tells the processes that it starts
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="127.0.0.1")
    sys.argv = ["recipes/grpo.py", *line]
    code = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        print(stop, file=sys.stderr)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(code)


with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
for world, out in ((1, sys.argv[1]), (2, sys.argv[2])):
    children = [start(rank, world, port, [f"--output_dir={out}", *sys.argv[3:]]) for rank in range(world)]
    assert not any([os.waitpid(child, 0)[1] for child in children]), f"{world} processes did not come to their end"
"""
"""Runs the main job as one process and then as two. Starting them through `accelerate launch` (above, slow) would import
torch and its friends five times, which takes longer than the runs."""


def test_two_processes_give_the_same_result_as_one(tmp_path):
    """The same captions, the same advantages and, but for rounding, the same update."""
    assets()
    runs = {name: tmp_path / name for name in ("cpu", "ddp")}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, *map(str, runs.values()), *ONE_STEP, "train.steps=2"],  # the first step of the warm-up moves nothing
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("on 2 processes: 1 images, 4 captions each") == 1
    rows = {name: sorted(map(caption, rollouts(out)), key=str) for name, out in runs.items()}
    assert len(rows["cpu"]) == 16
    assert len({row[1] for row in rows["cpu"]}) > 4, "captions that are all the same compare nothing"
    assert [row[:2] for row in rows["cpu"]] == [row[:2] for row in rows["ddp"]]
    assert [row[2] for row in rows["cpu"]] == pytest.approx([row[2] for row in rows["ddp"]], abs=1e-5)
    one, two, start = (load_file(folder / "adapter_model.safetensors") for folder in (
        runs["cpu"] / "adapter", runs["ddp"] / "adapter", Path(resolve_address("lab:adapter")),
    ))  # fmt: skip
    moved = sum((one[name] - start[name].float()).square().sum() for name in one) ** 0.5
    apart = sum((one[name] - two[name]).square().sum() for name in one) ** 0.5
    assert moved > 0
    assert apart < 1e-4 * moved


def rollouts(folder):
    for path in folder.glob("rollouts*.jsonl"):
        yield from (json.loads(line) for line in path.read_text().splitlines())


def caption(row):
    return row["sample_id"], row["caption"], row["advantage"]
