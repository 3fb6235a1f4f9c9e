"""`rlcap init`: the project is complete, and its recipes and its reward work inside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.cli import main as cli
from rlcap.cli.init import create_project
from rlcap.config.loading import load_config
from rlcap.config.required import require_complete
from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import SFTConfig
from rlcap.errors import ConfigError


def test_a_project_holds_recipes_configurations_and_a_reward(tmp_path):
    made = {path.relative_to(tmp_path / "mine").as_posix() for path in create_project(tmp_path / "mine")}
    assert {"README.md", "recipes/grpo.py", "recipes/configs/lab.yaml", "configs/photos.yaml",
            "rewards/brevity.py", "rewards/test_brevity.py"} <= made  # fmt: skip
    assert not any("__pycache__" in path for path in made)
    configs = tmp_path / "mine" / "configs"
    require_complete(load_config(GRPOConfig, configs / "photos.yaml"))
    load_config(GRPOConfig, configs / "photos_grpo.yaml")
    assert "recipes/configs" not in (configs / "photos.yaml").read_text()
    load_config(SFTConfig, configs / "photos_sft.yaml")


def test_a_folder_that_is_not_empty_stays_unchanged(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        create_project(tmp_path)
    assert cli.main(["init", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_recipe_of_a_project_uses_the_reward_of_the_project(tmp_path):
    project = tmp_path / "mine"
    create_project(project)
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    small = [
        "train.steps=1", "train.images_per_step=2", "train.captions_per_image=4", "train.micro_batch=8", "data.train=7",
        "data.validation=0", "data.test=7", "data.options.prior_breaking=0", "generation.max_new_tokens=8",
        'mix.brevity={reward: "rewards/brevity.py:Brevity", weight: 0.5}',
    ]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "recipes/grpo.py", "--output_dir", "runs/a", *small],
        cwd=project, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert '"brevity"' in (project / "runs" / "a" / "rollouts.jsonl").read_text()
    assert Path(project, "runs", "a", "adapter", "adapter_model.safetensors").is_file()
