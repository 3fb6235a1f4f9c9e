"""A run's folder: what is in it, and how it is written so that a crash leaves it readable.

config.yaml        every value of the configuration
run.json           versions, git commit, seeds, trainable parameters, data fingerprint
metrics.jsonl      one row an optimiser step
rollouts.jsonl     every sampled caption with its component scores and critiques (one file a process)
captions/<step>.jsonl   greedy captions of the evaluated splits
panel.jsonl        the same few images followed through training
checkpoints/       what resuming needs
adapter/           the tuned LoRA adapter, loadable in plain peft
summary.json, report.html
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcap.config.loading import dump
from rlcap.errors import ConfigError
from rlcap.types import Sample

PACKAGES = ("rlcap", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "open_clip_torch", "textgrad")
STATE = "rlcap_state.json"
"""Written last into a checkpoint, with the sizes of all other files: where one is missing or shorter, it is not whole."""
ENDED = "ended"
"""Entry of run.json that marks a run as ended where the recipe writes no summary."""
TRACES = ("config.yaml", "metrics.jsonl", "captions", "adapter")
"""What tells that a folder holds a run."""


class RunFolder:
    """Paths of a run and the few writes that several parts share."""

    def __init__(self, root: Path, recipe: str = "") -> None:
        self.root, self.recipe = root, recipe
        self.metrics = root / "metrics.jsonl"
        self.panel = root / "panel.jsonl"
        self.captions = root / "captions"
        self.checkpoints = root / "checkpoints"
        self.adapter = root / "adapter"
        self.fresh = False
        """Whether a new run begins here, which must find that no other did meanwhile."""

    @classmethod
    def choose(cls, recipe: str, name: str | None, output_dir: str | None, resume: str | None = None) -> RunFolder:
        """The run's folder, the same on every process; nothing is written yet (`begin` does that).

        Without a name the main process's clock gives one and the others are told: each would have its own second.
        ConfigError where the folder already holds a run that is not to be resumed, or `auto` has no folder to look in.
        """
        from accelerate.utils import broadcast_object_list

        if resume == "auto" and not (name or output_dir):
            raise ConfigError("resume=auto needs the run's folder: say --output_dir runs/NAME")
        root = output_dir or str(Path("runs") / (name or f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"))
        folder = cls(Path(broadcast_object_list([root])[0]), recipe)
        if not resume and any((folder.root / trace).exists() for trace in TRACES):
            raise ConfigError(
                f"{folder.root} already holds a run; choose another output_dir, or go on with it: resume=auto"
            )
        folder.fresh = not resume
        return folder

    def rollouts(self, rank: int) -> Path:
        return self.root / ("rollouts.jsonl" if rank == 0 else f"rollouts-{rank}.jsonl")

    def checkpoint(self, resume: str, steps: int) -> Path | None:
        """The checkpoint to go on from in a run of `steps` steps: the one named, or for `auto` the newest whole one.

        A run that was killed between its last checkpoint and its end takes up the one before, and comes to the same end
        again; one that was killed before its first starts from the beginning (None). ConfigError where the one named is
        not whole, where nothing is left to do, or where a finished run has no checkpoints left.
        """
        if resume != "auto":
            path = Path(resume)
            if lack := missing_from_checkpoint(path):
                raise ConfigError(f"resume={resume}: not a whole checkpoint ({lack}); resume=auto finds the newest")
            if _step(path) >= steps:
                raise ConfigError(f"resume={resume} is past the last of {steps} steps; raise train.steps to go on")
            return path
        # Half-written ones (a kill during the write) are passed over.
        whole = [path for path in self.checkpoints.glob("checkpoint-*") if not missing_from_checkpoint(path)]
        reported = (self.root / "summary.json").is_file()
        if (reported or ENDED in self.facts()) and any(_step(path) >= steps for path in whole):
            again = f", or write its report again: rlcap report {self.root}" if reported else ""
            raise ConfigError(
                f"resume=auto: the run in {self.root} has ended after its {steps} steps; raise train.steps to go on{again}"
            )
        if not whole:
            if left := [name for name in ("summary.json", "adapter") if (self.root / name).exists()]:
                raise ConfigError(
                    f"resume=auto: {self.root} has no checkpoint but holds {left[0]} of a run that came to its end; choose "
                    "another output_dir"
                )
            return None
        before = [path for path in whole if _step(path) < steps]
        if not before:
            raise ConfigError(
                f"resume=auto: no whole checkpoint before step {steps} in {self.checkpoints}; start without resume, in "
                "another output_dir"
            )
        return max(before, key=_step)

    def facts(self) -> dict[str, Any]:
        """Return the contents of run.json; empty where no session has begun."""
        path = self.root / "run.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def mark_ended(self) -> None:
        """Note in run.json that the run has ended. Recipes that write a summary need no such mark."""
        write_text(self.root / "run.json", json.dumps({**self.facts(), ENDED: True}, indent=2))

    def check_same_run(
        self,
        recipe: str,
        seed: int,
        splits: Mapping[str, Sequence[Sample]] | None = None,
        pairs_fingerprint: str | None = None,
    ) -> None:
        """Check that a resumed run is the one that was begun in this folder.

        What came out otherwise would be neither run, or its start would be compared with other images than its end.

        Args:
            recipe: Name of the recipe.
            seed: The configured `train.seed`.
            splits: The loaded data; None where they are not loaded yet.
            pairs_fingerprint: Fingerprint of the preference pairs; None where the recipe has none.

        Raises:
            ConfigError: The run was begun by another recipe, with another seed or with other data.
        """
        facts = self.facts()
        if facts.get("recipe", recipe) != recipe:
            raise ConfigError(f"{self.root} is a run of recipes/{facts['recipe']}.py, this is recipes/{recipe}.py")
        if facts.get("seed", seed) != seed:
            raise ConfigError(
                f"{self.root} was begun with train.seed={facts['seed']}, got {seed}: a run keeps its seed"
            )
        if pairs_fingerprint is not None and facts.get("pairs_fingerprint", pairs_fingerprint) != pairs_fingerprint:
            raise ConfigError(
                f"{self.root} was begun with other pairs: give the file that its config.yaml names, or another output_dir"
            )
        for name, rows in (splits or {}).items():
            before = facts.get("data", {}).get(name)
            if before is not None and before["fingerprint"] != fingerprint(rows):
                raise ConfigError(
                    f"{self.root} was begun with {before['images']} other {name} images than these {len(rows)}: give the "
                    "data: that its config.yaml names, or another output_dir"
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
        """Make the folder what a session starts from: nothing logged after `step` (−1: nothing at all), config.yaml and
        run.json, which say what was asked, with which versions and code, on which data.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if self.fresh:
            self._claim()
        for path in (self.captions, self.checkpoints):
            path.mkdir(parents=True, exist_ok=True)
        self.rewind(step)
        data = {name: {"images": len(rows), "fingerprint": fingerprint(rows)} for name, rows in splits.items()}
        facts = {"versions": versions(), "python": platform.python_version(), "git": git_commit()}
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
        """ConfigError where another run began in this folder since it was chosen."""
        try:
            (self.root / "config.yaml").open("x").close()
        except FileExistsError as error:
            raise ConfigError(f"{self.root} was taken by another run meanwhile; choose another output_dir") from error

    def rewind(self, step: int) -> None:
        """Drop what was logged after `step`: a resumed run writes it again."""
        for path in [self.metrics, self.panel, *self.root.glob("rollouts*.jsonl")]:
            if path.exists():
                rows = [line for line in read_lines(path) if line["step"] <= step]
                write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        for path in self.captions.glob("*.jsonl"):
            if int(path.stem) > step:
                path.unlink()
        for path in self.checkpoints.glob("checkpoint-*"):
            if _step(path) > step:
                shutil.rmtree(path)


def write_state(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Write the last file of a checkpoint.

    Args:
        checkpoint: Folder of the checkpoint. All its other files must be written.
        state: What resuming needs beside what transformers saves; JSON-able.
    """
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != STATE)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    write_text(checkpoint / STATE, json.dumps({**state, "files": sizes}))


def missing_from_checkpoint(checkpoint: Path) -> str:
    """What a checkpoint lacks, in words; empty where it is whole."""
    try:
        sizes = json.loads((checkpoint / STATE).read_text()).get("files", {})
    except FileNotFoundError:
        return f"it lacks {STATE}"
    except json.JSONDecodeError as error:
        return f"its {STATE} is no JSON: {error}"
    for name, size in sizes.items():
        path = checkpoint / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            return f"its {name} has {found:,} of {size:,} bytes"
    return ""


def step_of(checkpoint: Path | None) -> int:
    """Steps that a checkpoint has behind it, by its name; −1 for none: not even the first evaluation was done."""
    return -1 if checkpoint is None else _step(checkpoint)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file; a last line that a kill cut short is left out."""
    rows = []
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number + 1 < len(lines):
                raise ValueError(f"{path}, line {number + 1} is not JSON: {error}") from error
    return rows


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def fingerprint(samples: Sequence[Sample]) -> str:
    """sha256 over ids and texts: two runs on the same data have the same."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.id, sample.references, sample.paragraph], ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def git_commit() -> str | None:
    """The commit of the code in use, with `+dirty` where it was changed; None outside a checkout."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str | None]:
    """Of the packages that a result depends on; None where one is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
