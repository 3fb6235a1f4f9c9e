"""A recipe rejects FSDP before it loads anything, and names the configurations that work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.errors import ConfigError
from rlcap.train.sharding import refuse_fsdp

ROOT = Path(__file__).parents[2]


def test_the_error_about_fsdp_names_the_alternatives(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match=r"FSDP.*launch/accelerate/ddp\.yaml.*zero3\.yaml"):
        refuse_fsdp()


@pytest.mark.parametrize("value", [None, "false", "False"])
def test_a_launch_without_fsdp_is_accepted(monkeypatch, value):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    if value is not None:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", value)
    refuse_fsdp()


def test_a_recipe_launched_with_fsdp_ends_with_a_one_line_error(tmp_path):
    line = [sys.executable, "recipes/sft.py", f"--output_dir={tmp_path / 'run'}"]
    environment = {**os.environ, "ACCELERATE_USE_FSDP": "true"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.startswith("error: accelerate is configured to use FSDP")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
