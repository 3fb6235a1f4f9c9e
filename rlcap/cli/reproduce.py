"""`rlcap doctor --reproduce`: does this machine give the recorded adapter of the main job, bit for bit?

The main job's first steps run on the embedded lab, in a temporary folder. Another processor, number of threads or version of torch adds
numbers in another order, so that single tokens are sampled differently and the run takes another course. This is expected. A
machine that gives the recorded bytes can compare its results with the published ones value by value; any other one should compare
means over seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rlcap.io.addresses import resolve_address
from rlcap.io.atomic import write_json

SETTINGS = (
    "train.steps=3", "train.images_per_step=4", "train.captions_per_image=4", "train.micro_batch=16", "data.train=56",
    "data.validation=0", "data.test=7", "data.options.prior_breaking=0", "evaluation.every=100", "evaluation.panel=1",
)  # fmt: skip
"""Overrides of the main job that keep it under a minute."""
PACKAGES = ("torch", "transformers", "trl", "peft", "open_clip_torch")
THREADS = "2"
"""Threads of the recorded run; the number decides the order of sums."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The first steps of the main job on this machine, beside the recorded ones."""

    found: dict[str, Any]
    """sha256 of the adapter, versions and processor of this machine."""
    recorded: dict[str, Any]
    """The same of the record."""

    @property
    def is_identical(self) -> bool:
        """Whether the adapters have the same bytes."""
        return bool(self.found["sha256"] == self.recorded["sha256"])

    def text(self) -> str:
        """Return the result in words."""
        if self.is_identical:
            return "reproduce: this machine gives the recorded adapter bit for bit; published values can be compared one by one"
        different = [
            f"{name} {self.found[name]} instead of {self.recorded[name]}"
            for name in self.recorded
            if name != "sha256" and self.found.get(name) != self.recorded[name]
        ]
        cause = "; ".join(different) or "the same versions and processor, so another library of this machine differs"
        return (
            "reproduce: this machine gives another adapter than the recorded one. That is expected on other hardware or with other "
            f"versions ({cause}). Compare means over several seeds, and not single runs, with the published values"
        )


def record_file() -> Path:
    """Return the path of the record, which is part of the package."""
    return Path(resolve_address("lab:captioner")).parent / "reproduce.json"


def reproduce() -> Reproduction:
    """Run the first steps of the main job, and compare the adapter with the record.

    Raises:
        RuntimeError: The run failed; the message holds the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="rlcap-reproduce-") as folder:
        run = Path(folder) / "run"
        environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        line = [sys.executable, "-m", "rlcap.recipes.grpo", f"--output_dir={run}", *SETTINGS]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the main job failed: {(done.stdout + done.stderr)[-2000:]}")
        digest = hashlib.sha256((run / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    found = {"sha256": digest, "processor": processor(), "python": platform.python_version()}
    found |= {package: metadata.version(package) for package in PACKAGES}
    recorded: dict[str, Any] = (
        json.loads(record_file().read_text(encoding="utf-8")) if record_file().exists() else found
    )
    return Reproduction(found, recorded)


def record(reproduction: Reproduction) -> None:
    """Make this machine's result the record."""
    write_json(record_file(), reproduction.found, "the record", indent=1)


def processor() -> str:
    """Return the name of the processor, by which machines differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    record(reproduce())
