"""Runs the variants of a sweep: one after the other or several at once, to the end or until they prove hopeless."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.errors import InputError

if TYPE_CHECKING:
    from rlcap.config.sweep import Sweep, Variant

POLL = 0.5
"""Seconds between two looks at a run that shall pause."""
Run = tuple["Variant", int, list[str]]
"""Variant, training seed and arguments of the recipe."""


class SweepRuns:
    """The runs of a sweep, with their record.

    Args:
        sweep: The sweep.
        file: The file of the sweep, for the record.
        out: The folder of the runs.
        jobs: Runs at once.
        record: The file of the record.
    """

    def __init__(self, sweep: Sweep, file: Path, out: Path, jobs: int, record: Path) -> None:
        from rlcap.io.text import read_json

        self.sweep, self.file, self.out, self.jobs, self.path = sweep, file, out, jobs, record
        # The record also keeps runs of an earlier form of the file.
        self.record: dict[str, dict[str, Any]] = (
            read_json(record, "the record of the sweep")["runs"] if record.is_file() else {}
        )
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def run(self, runs: Sequence[Run], rungs: Sequence[int], split: str | None) -> None:
        """Train all runs to their end, or stop the worse half of the variants at each rung.

        Args:
            runs: The runs.
            rungs: Evaluated steps, ascending, at which the worse half of the remaining variants is stopped: successive halving
                (Jamieson and Talwalkar, AISTATS 2016). A stopped run keeps its checkpoint.
            split: The held-out split whose objective decides; None for validation where the runs have it, else test.
        """
        remaining = list(runs)
        for rung in rungs:
            self._train_all(remaining, rung)
            remaining = self._keep_better_half(remaining, rung, split)
        self._train_all(remaining, None)

    def _train_all(self, runs: Sequence[Run], until: int | None) -> None:
        with ThreadPoolExecutor(self.jobs) as pool:
            numbered = [pool.submit(self._train_one, i, len(runs), run, until) for i, run in enumerate(runs, 1)]
            try:
                for future in numbered:
                    future.result()
            except BaseException:
                self._stopping.set()  # the runs finish their steps and save
                for future in numbered:
                    future.cancel()
                raise

    def _train_one(self, number: int, count: int, run: Run, until: int | None) -> None:
        variant, seed, arguments = run
        folder = self.out / f"{variant.name}-{seed}"
        if self._stopping.is_set():
            return
        goal = "" if until is None else f" to step {until}"
        print(f"{number} of {count}{goal}: {folder.name}  {' '.join(variant.overrides)}", flush=True)
        entry = train(self.sweep, folder, arguments, until, self._stopping)
        with self._lock:
            seconds = self.record.get(folder.name, {}).get("seconds", 0) + entry.pop("seconds", 0)
            self.record[folder.name] = {"parameters": dict(variant.values), "seed": seed, **entry}
            if seconds:
                self.record[folder.name]["seconds"] = round(seconds, 1)
            self._write()
        print(f"  {folder.name}: {entry['state']}{describe_error(entry, folder)}", flush=True)

    def _keep_better_half(self, runs: Sequence[Run], rung: int, split: str | None) -> list[Run]:
        """Return the runs of the better half of the variants; the others are recorded as stopped."""
        names: dict[str, list[str]] = {}
        for variant, seed, _ in runs:
            names.setdefault(variant.name, []).append(f"{variant.name}-{seed}")
        whole = {
            name: objective_at([self.out / folder for folder in folders], rung, split)
            for name, folders in names.items()
            if all(self.record[folder]["state"] != "failed" for folder in folders)
        }
        ranked = sorted(whole, key=lambda name: (math.isnan(whole[name]), -whole[name]))
        kept = set(ranked[: max(1, math.ceil(len(ranked) / 2))])
        for name in ranked:
            print(
                f"  {name}: objective {whole[name]:.3f} at step {rung}{'' if name in kept else ', stopped'}", flush=True
            )
            for folder in names[name] if name not in kept else ():
                self.record[folder] |= {"state": "stopped", "step": rung, "objective": whole[name]}
        self._write()
        return [run for run in runs if run[0].name in kept]

    def _write(self) -> None:
        from rlcap.io.atomic import write_json

        content = {"file": str(self.file), "runs": self.record}
        write_json(self.path, content, "the record of the sweep", indent=1)


def train(
    sweep: Sweep, folder: Path, arguments: Sequence[str], until: int | None, stopping: threading.Event
) -> dict[str, Any]:
    """Train one run as a process of its own, unless it is finished.

    Args:
        sweep: The sweep.
        folder: The folder of the run.
        arguments: The arguments of the recipe.
        until: The evaluated step after which the run pauses with a checkpoint; None for its end.
        stopping: Set where the run shall pause now.

    Returns:
        The entry of the run in sweep.json: its state (`finished`, `paused` or `failed`), its seconds, and the last line of a failed
        run's output.
    """
    if is_finished(folder):
        return {"state": "finished"}
    if until is not None and has_evaluated(folder, until):
        return {"state": "paused"}
    resume = ["resume=auto"] if (folder / "config.yaml").is_file() else []
    log, start = folder.with_name(f"{folder.name}.log"), time.monotonic()
    with open(log, "a", encoding="utf-8") as output:
        line = [*launch(sweep), *arguments, f"--output_dir={folder}", *resume]
        # A session of its own, because the launcher starts the recipe as a further process that a signal must reach too.
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        interrupted = False
        while (code := process.poll()) is None:
            if not interrupted and (stopping.is_set() or (until is not None and has_evaluated(folder, until))):
                interrupted = True
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(POLL)
    seconds = round(time.monotonic() - start, 1)
    if code == 0 and is_finished(folder):
        return {"state": "finished", "seconds": seconds}
    if interrupted:
        return {"state": "paused", "seconds": seconds}
    said = [text.strip() for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip()]
    return {"state": "failed", "seconds": seconds, "exit_code": code, "error": said[-1][-300:] if said else ""}


def launch(sweep: Sweep) -> list[str]:
    """Return the command that starts the recipe, with this Python: by its file, or by its module where there is no clone."""
    launcher = [sys.executable]
    if sweep.launcher[:2] == ("accelerate", "launch"):
        launcher += ["-m", "accelerate.commands.launch", *sweep.launcher[2:]]
    program = Path(sweep.program)
    return [*launcher, str(program)] if program.is_file() else [*launcher, "-m", f"rlcap.recipes.{program.stem}"]


def is_finished(folder: Path) -> bool:
    """Return whether a run reached its last step and wrote its summary."""
    from rlcap.eval.run_files import run_config
    from rlcap.eval.summary import read_summary

    if not (folder / "summary.json").is_file():
        return False
    config = run_config(folder) or {}
    return bool(read_summary(folder)["steps"] >= config.get("train", {}).get("steps", 0))


def has_evaluated(folder: Path, step: int) -> bool:
    """Return whether a run has evaluated a step or a later one."""
    from rlcap.eval.captions_file import evaluated_steps

    return (folder / "captions").is_dir() and max(evaluated_steps(folder), default=-1) >= step


def objective_at(folders: Iterable[Path], step: int, split: str | None) -> float:
    """Return the mean objective of runs at a step; NaN where one did not evaluate it.

    Raises:
        InputError: The runs have no captions of the split at this step, but at others.
    """
    import numpy as np

    from rlcap.eval.captions_file import evaluated_steps, read_tables
    from rlcap.train.result_tables import objective

    values = []
    for folder in folders:
        steps = evaluated_steps(folder)
        if step not in steps:
            raise InputError(
                f"{folder} evaluated the steps {steps}, not {step}: choose rungs among the multiples of evaluation.every"
            )
        tables = read_tables(folder, step)
        own = split or ("validation" if "validation" in tables else "test")
        if own not in tables:
            raise InputError(
                f"{folder} has no captions of {own} at step {step}: hold out a validation split, which is evaluated on the way"
            )
        metrics = {
            name: {"mean": float(np.nanmean(column))}
            for name, column in tables[own].metrics.items()
            if not np.isnan(column).all()
        }
        values.append(objective(metrics))
    return sum(values) / len(values)


def final_objective(folders: Sequence[Path], split: str | None) -> float:
    """Return the mean objective of finished runs at their last evaluated step."""
    from rlcap.eval.captions_file import evaluated_steps

    return sum(objective_at([folder], max(evaluated_steps(folder)), split) for folder in folders) / len(folders)


def describe_error(entry: Mapping[str, Any], folder: Path) -> str:
    """Return why a run failed, for the console."""
    return f" ({entry['error']}; see {folder}.log)" if entry["state"] == "failed" else ""
