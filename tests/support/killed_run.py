"""Kills a run of a recipe once it has saved a checkpoint."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def kill_at_checkpoint(
    line: Sequence[str], folder: Path, environment: Mapping[str, str], output: Path, step: int
) -> Path:
    """Start a command, and kill it when the checkpoint of a step is complete; return the checkpoint's folder.

    Args:
        line: the command.
        folder: the folder in which it runs.
        environment: its environment.
        output: the run folder.
        step: the step of the checkpoint.
    """
    process = subprocess.Popen(
        [*line], cwd=folder, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = output / "checkpoints" / f"checkpoint-{step}"
    deadline = time.time() + 240
    while not (checkpoint / "rlcap_state.json").exists():
        assert process.poll() is None, "the run ended before its checkpoint"
        assert time.time() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (output / "adapter").exists()
    return checkpoint
