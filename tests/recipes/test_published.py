"""The configurations of published systems agree with the papers, and their first steps run on the lab."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.data.curriculum import parse

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "recipes" / "configs" / "published"
NAMES = ("clip_caption_reward", "discritune", "mocha", "ndlb")
SMALL = [
    "train.steps=2", "train.images_per_step=2", "train.micro_batch=10", "data.train=5", "data.validation=7",
    "data.test=0", "data.options.prior_breaking=0", "evaluation.every=2", "evaluation.panel=1", "generation.max_new_tokens=12",
]  # fmt: skip


def config(name, *overrides):
    return load_config(GRPOConfig, PUBLISHED / f"{name}.yaml", overrides)


def test_every_config_has_a_test():
    assert {path.stem for path in PUBLISHED.glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_valid_and_names_its_command(name):
    found = config(name)
    parse(found.curriculum)
    assert f"--config recipes/configs/published/{name}.yaml" in (PUBLISHED / f"{name}.yaml").read_text()
    assert found.train.micro_batch % found.train.captions_per_image == 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ndlb", {"learning_rate": 9e-8, "beta": 0.0, "aggregate": "sum_minus_running_mean", "loss_type": "grpo",
                  "learn_end": False}),
        ("discritune", {"learning_rate": 1e-7, "policy_temperature": 1.0, "learn_end": False, "beta": 0.0, "aggregate": "sum_minus_running_mean"}),
        ("mocha", {"learning_rate": 1e-6, "beta": 0.06, "kl": "sequence", "iterations": 4, "max_grad_norm": 5.0,
                   "aggregate": "sum_then_center", "images_per_step": 10, "captions_per_image": 10, "epsilon": 0.2,
                   "policy_temperature": 1.0, "weight_decay": 0.01}),
        ("clip_caption_reward", {"learning_rate": 5e-6, "images_per_step": 160, "captions_per_image": 5,
                                 "aggregate": "sum_minus_greedy", "whiten": False,
                                 "max_grad_norm": 0.1}),
    ],
)  # fmt: skip
def test_values_agree_with_the_papers(name, values):
    train = config(name).train
    assert {key: getattr(train, key) for key in values} == values
    assert train.schedule == "constant"


def test_sampling_and_weights_agree_with_the_authors_runs():
    assert config("discritune").generation.temperature == 0
    assert config("mocha").generation.temperature == 1.2
    assert config("ndlb").generation.temperature == 0.3
    mix = config("clip_caption_reward").mix
    assert (mix["clip_score"].weight, mix["repetition"].weight) == (2.0, 1.0)


def test_self_retrieval_compares_a_hundred_captions_and_images():
    for name in ("ndlb", "discritune"):
        found = config(name)
        assert found.train.images_per_step * found.train.captions_per_image == 100
        assert found.mix["self_retrieval"].params["candidates"] == 100
    assert config("ndlb").model.lora_rank == 32
    assert config("mocha").generation.temperature == 1.2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_config_trains_on_the_lab(name, tmp_path):
    groups = [f"train.captions_per_image={5 if name == 'clip_caption_reward' else 4}"]
    groups += ["train.micro_batch=8"] if name != "clip_caption_reward" else []
    done = subprocess.run(
        [sys.executable, "recipes/grpo.py", f"--config={PUBLISHED / name}.yaml", f"--output_dir={tmp_path / 'run'}",
         *SMALL, *groups],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line)["metrics"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert rows[0]["grad_norm"] > 0
    assert all(row["learning_rate"] == config(name).train.learning_rate for row in rows)
    if name == "mocha":
        assert abs(rows[0]["kl/caption"]) < 1e-3  # the policy is still its own reference
    rollouts = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert any(row["advantage"] for row in rollouts)
    if name in ("ndlb", "discritune"):  # REINFORCE doesn't compare within the group: its sums are not zero
        sums = {}
        for row in rollouts:
            sums[row["step"], row["sample_id"]] = sums.get((row["step"], row["sample_id"]), 0) + row["advantage"]
        assert max(map(abs, sums.values())) > 1e-4
