"""The folder of a run: its contents, and writes that leave it readable after a crash.

config.yaml             every value of the configuration
run.json                versions, git commit, seed, trainable parameters, fingerprints of the data
metrics.jsonl           one row for each optimiser step
rollouts.jsonl          every sampled caption with the scores of the reward terms and critiques (one file for each process)
captions/<step>.jsonl   greedy captions of the evaluated splits
panel.jsonl             the captions of a few images at each evaluation
checkpoints/            the states from which a run can be resumed
adapter/                the trained LoRA adapter, which plain peft loads, with its model card
summary.json            means and changes of the held-out metrics
report.html             the report

SFT evaluates nothing, so it writes neither captions nor a summary nor a report. Only GRPO and PPO write rollouts and a panel.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.config.loading import dump
from rlcap.errors import ConfigError
from rlcap.io.atomic import make_folder, write_text
from rlcap.io.lock import FolderLock
from rlcap.io.text import read_json, read_log
from rlcap.train.checkpoints import find_damage, list_checkpoints, step_of
from rlcap.types import Sample

PACKAGES = ("rlcap", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "open_clip_torch", "textgrad")
ENDED = "ended"
"""Entry of run.json that marks a run as ended where the recipe writes no summary."""
TRACES = ("config.yaml", "metrics.jsonl", "captions", "adapter")
"""A folder that contains one of these files or folders contains a run."""

_LOCKS: dict[Path, FolderLock] = {}
"""The folders that this process has taken; a later run of the process may use them again."""


class RunFolder:
    """The paths of a run, and the operations on them that several parts of the code share.

    Args:
        root: The folder.
        recipe: Name of the recipe, such as `grpo`.
    """

    def __init__(self, root: Path, recipe: str = "") -> None:
        self.root, self.recipe = root, recipe
        self.metrics = root / "metrics.jsonl"
        self.panel = root / "panel.jsonl"
        self.captions = root / "captions"
        self.checkpoints = root / "checkpoints"
        self.adapter = root / "adapter"
        self.passed_over: list[str] = []
        """What `checkpoint` found wrong with newer checkpoints than the one that it returned."""
        self.fresh = False
        """Whether a new run starts here. `begin` then checks that no other run took the folder in the meantime."""

    @classmethod
    def choose(cls, recipe: str, name: str | None, output_dir: str | None, resume: str | None = None) -> RunFolder:
        """Choose the folder of a run. The folder stays unchanged until `begin`.

        Args:
            recipe: Name of the recipe, such as `grpo`.
            name: The configured `name`; if it is None, the name is the recipe and the time.
            output_dir: The configured `output_dir`, which takes precedence over the name.
            resume: The configured `resume`.

        Returns:
            The same folder on every process. Only the main process reads the clock, because others could read another second.

        Raises:
            ConfigError: The folder already holds a run and `resume` is not set, or `resume=auto` has no folder.
        """
        from accelerate.utils import broadcast_object_list

        if resume == "auto" and not (name or output_dir):
            raise ConfigError("resume=auto needs the folder of the run: add --output_dir runs/NAME")
        root = (
            str(Path(output_dir).expanduser())
            if output_dir
            else str(Path("runs") / (name or f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"))
        )
        folder = cls(Path(broadcast_object_list([root])[0]), recipe)
        if folder.root.exists() and not folder.root.is_dir():
            raise ConfigError(f"output_dir {folder.root} is a file; name a folder")
        if not resume and any((folder.root / trace).exists() for trace in TRACES):
            raise ConfigError(
                f"{folder.root} already holds a run; choose another output_dir, or continue the run with resume=auto"
            )
        folder.fresh = not resume
        return folder

    def rollouts(self, rank: int) -> Path:
        """Return the file to which the process of this rank writes its sampled captions."""
        return self.root / ("rollouts.jsonl" if rank == 0 else f"rollouts-{rank}.jsonl")

    def checkpoint(self, resume: str, steps: int) -> Path | None:
        """Find the checkpoint from which a run continues.

        A run that was killed between its last checkpoint and its end continues from the checkpoint before the last one, and
        reaches the same end again.

        Args:
            resume: Folder of a checkpoint, or `auto` for the newest complete one of this run.
            steps: The configured number of optimiser steps.

        Returns:
            The checkpoint; None for a run that was killed before its first one and therefore starts from the beginning.

        Raises:
            ConfigError: The named checkpoint is incomplete, no step is left, or a finished run has no checkpoint any more.
        """
        if resume != "auto":
            path = Path(resume)
            step = step_of(path)
            if damage := find_damage(path):
                raise ConfigError(
                    f"resume={resume}: not a complete checkpoint ({damage}); resume=auto finds the newest"
                )
            if step >= steps:
                raise ConfigError(f"resume={resume} has no step left of {steps}; raise train.steps to continue")
            return path
        whole = []
        for path in list_checkpoints(self.checkpoints):
            if damage := find_damage(path):  # a kill during a write, or a disk that fails
                self.passed_over.append(f"passing over {path.name}: {damage}")
            else:
                whole.append(path)
        reported = self._summarised(steps)
        if (reported or ENDED in self.facts()) and any(step_of(path) >= steps for path in whole):
            again = f", or write the report again with rlcap report {self.root}" if reported else ""
            raise ConfigError(
                f"resume=auto: the run in {self.root} has completed its {steps} steps; raise train.steps to continue{again}"
            )
        if not whole:
            if left := [name for name in ("summary.json", "adapter") if (self.root / name).exists()]:
                raise ConfigError(
                    f"resume=auto: {self.root} has no checkpoint, but the {left[0]} of a completed run; choose "
                    "another output_dir"
                )
            return None
        before = [path for path in whole if step_of(path) < steps]
        if not before:
            raise ConfigError(
                f"resume=auto: no complete checkpoint before step {steps} in {self.checkpoints}; start without resume, in "
                "another output_dir"
            )
        return before[0]

    def lock(self) -> None:
        """Take the folder for this process until its end, so that no second run writes into it. Only one process calls this.

        Raises:
            LockedError: Another process has taken the folder.
        """
        root = self.root.resolve()
        if root not in _LOCKS:
            _LOCKS[root] = FolderLock(make_folder(root, "the folder of the run"), "the run")

    def facts(self) -> dict[str, Any]:
        """Return the contents of run.json; empty if no session has started."""
        path = self.root / "run.json"
        return dict(read_json(path, "the record of the run")) if path.is_file() else {}

    def _summarised(self, steps: int) -> bool:
        """Return whether summary.json comes from a session that reached step `steps`."""
        path = self.root / "summary.json"
        return path.is_file() and read_json(path, "the summary").get("steps", steps) >= steps

    def mark_ended(self) -> None:
        """Record in run.json that the run has ended. Recipes that write a summary do not need this mark."""
        write_text(self.root / "run.json", json.dumps({**self.facts(), ENDED: True}, indent=2))

    def check_same_run(
        self,
        recipe: str,
        seed: int,
        splits: Mapping[str, Sequence[Sample]] | None = None,
        pairs_fingerprint: str | None = None,
    ) -> None:
        """Check that a resumed run is the run that was started in this folder.

        Otherwise the result would be a mixture of two runs, or its first and its last evaluation would use other images.

        Args:
            recipe: Name of the recipe.
            seed: The configured `train.seed`.
            splits: The loaded data; None before they are loaded.
            pairs_fingerprint: Fingerprint of the preference pairs; None in recipes without pairs.

        Raises:
            ConfigError: The run was started by another recipe, with another seed or with other data.
        """
        facts = self.facts()
        if facts.get("recipe", recipe) != recipe:
            raise ConfigError(f"{self.root} is a run of recipes/{facts['recipe']}.py, this is recipes/{recipe}.py")
        if facts.get("seed", seed) != seed:
            raise ConfigError(
                f"{self.root} was started with train.seed={facts['seed']}, got {seed}: a resumed run must keep its seed"
            )
        if pairs_fingerprint is not None and facts.get("pairs_fingerprint", pairs_fingerprint) != pairs_fingerprint:
            raise ConfigError(
                f"{self.root} was started with other pairs: use the file in its config.yaml, or another output_dir"
            )
        for name, rows in (splits or {}).items():
            before = facts.get("data", {}).get(name)
            if before is not None and before["fingerprint"] != fingerprint(rows):
                raise ConfigError(
                    f"{self.root} was started with other {name} images ({before['images']} instead of {len(rows)}): use the "
                    "section data of its config.yaml, or another output_dir"
                )

    def check_precision(self, precision: str, dtype: str) -> None:
        """Check that a resumed run computes in the precision in which it was started.

        Args:
            precision: accelerate's mixed precision: no, bf16 or fp16.
            dtype: Data type of the weights of the base, such as bfloat16.

        Raises:
            ConfigError: The precision is another one, so that the run would go on with other numbers.
        """
        before = self.facts().get("precision", precision)
        if before != precision:
            raise ConfigError(
                f"{self.root} was started with mixed precision {before!r}, this session has {precision!r}; start it in the "
                f"same way, for instance by accelerate launch --mixed_precision {before}"
            )
        before = self.facts().get("dtype", dtype)
        if before != dtype:
            raise ConfigError(
                f"{self.root} was started with a base in {before}, in this session it is in {dtype}; set model.dtype={before}"
            )

    def begin(
        self,
        config: Any,
        splits: Mapping[str, Sequence[Sample]],
        step: int = -1,
        *,
        seconds_before: float = 0.0,
        **more: Any,
    ) -> None:
        """Prepare the folder for a session: drop the logs after the step at which it starts, and write config.yaml and run.json.

        Args:
            config: The checked configuration.
            splits: Name of a split → its samples.
            step: Optimiser steps that are already completed; −1 if the run starts from the beginning.
            seconds_before: Seconds of the earlier sessions.
            **more: Further entries of run.json.

        Raises:
            ConfigError: Another run took the folder in the meantime.
        """
        self.lock()
        if self.fresh:
            self._claim()
        for path in (self.captions, self.checkpoints):
            make_folder(path, "the folder of the run")
        self.rewind(step)
        data = {name: {"images": len(rows), "fingerprint": fingerprint(rows)} for name, rows in splits.items()}
        facts: dict[str, Any] = {"versions": versions(), "python": platform.python_version(), "git": git_commit()}
        facts |= {
            "recipe": self.recipe,
            "seed": config.train.seed,
            "data": data,
            "seconds_before": seconds_before,
            **more,
        }
        write_text(self.root / "config.yaml", dump(config))
        write_text(self.root / "run.json", json.dumps(facts, indent=2))

    def _claim(self) -> None:
        """Take the folder for a new run.

        Raises:
            ConfigError: Another run started in this folder after it was chosen.
        """
        try:
            (self.root / "config.yaml").open("x").close()
        except FileExistsError as error:
            raise ConfigError(f"another run has just started in {self.root}; choose another output_dir") from error

    def rewind(self, step: int) -> None:
        """Drop all logs, captions and checkpoints after `step`, because a resumed run writes them again."""
        for path in [self.metrics, self.panel, *self.root.glob("rollouts*.jsonl")]:
            if path.exists():
                rows = [line for line in read_log(path) if line["step"] <= step]
                write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        for path in self.captions.glob("*.jsonl"):
            if path.stem.isdigit() and int(path.stem) > step:
                path.unlink()
        for path in list_checkpoints(self.checkpoints):
            if step_of(path) > step:
                shutil.rmtree(path)


def fingerprint(samples: Sequence[Sample]) -> str:
    """Return 16 hexadecimal digits of a sha256 over ids, texts and controls. Two runs have the same data if these agree."""
    digest = hashlib.sha256()
    for sample in samples:
        row = [sample.id, sample.references, sample.paragraph]
        more = [sample.control.to_dict(), sample.meta.get("formats")]
        digest.update(json.dumps([*row, *(more if any(more) else [])], ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def git_commit() -> str | None:
    """Return the git commit of the code, with `+dirty` if tracked files have changes; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str | None]:
    """Return the versions of the packages on which a result depends; None for a package that is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
