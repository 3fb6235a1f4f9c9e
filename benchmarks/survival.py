"""Do runs survive faults? Kills at random instants, damaged checkpoints, a full disk, and a judge that fails.

    python benchmarks/survival.py --json benchmarks/results/survival.json           everything, about two hours on two cores
    python benchmarks/survival.py --kills 2 --processes 1 --recipes grpo sft        a part of it

The file of results is written after each recipe and number of processes. A later call with the same number of kills adds to it.

A run of each recipe on the embedded lab goes through without a fault. Then the same run meets a fault and is resumed with
`resume=auto` until it ends. It ended right if its adapter has the same bytes, its metrics the same values, and no step is missing or
logged twice. A fault that must stop a run (a full disk, a folder in use) ended right if the run stopped with one line that names the
cause, and the files from before are unchanged.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_runs import write_json

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ("grpo", "ppo", "sft", "dpo")
FAULTS = ("kills", "damages", "stops")
COMMON = ["train.save_every=2", "data.options.prior_breaking=0"]
RL = ["train.steps=6", "train.images_per_step=2", "train.captions_per_image=4", "train.micro_batch=4", "generation.max_new_tokens=24",
      "data.train=14", "data.validation=0", "data.test=7", "evaluation.every=100", "evaluation.panel=1"]  # fmt: skip
SMALL = {
    "grpo": [*COMMON, *RL],
    "ppo": [*COMMON, *RL, "train.iterations=1"],
    "sft": ["train.save_every=2", "train.steps=6", "train.batch_size=4", "train.micro_batch=2", "data.train=14", "data.validation=0"],
    "dpo": [*COMMON, "train.steps=6", "train.batch_size=4", "train.micro_batch=2", "data.validation=7", "data.test=7",
            "evaluation.every=100"],
}  # fmt: skip
MOST_SESSIONS = 12
"""Sessions after which a run counts as lost."""


@dataclass
class Outcome:
    """What became of the runs that met one fault."""

    fault: str
    recipe: str
    processes: int
    runs: int = 0
    ended_right: int = 0
    details: str = ""


class Runs:
    """Starts and resumes runs of one recipe in a working folder."""

    def __init__(self, work: Path, recipe: str, processes: int, pairs: Path | None) -> None:
        self.work, self.recipe, self.processes = work, recipe, processes
        self.arguments = [*SMALL[recipe], *([f"pairs={pairs}"] if pairs is not None and recipe == "dpo" else [])]
        self.count = 0

    def folder(self) -> Path:
        """Return the folder of a new run."""
        self.count += 1
        return self.work / f"{self.recipe}-{self.processes}-{self.count}"

    def start(self, folder: Path, *more: str, limit: int | None = None) -> subprocess.Popen[str]:
        """Start a session, which begins a run or resumes it. `limit` bounds the size of the files that it may write."""
        launch = [sys.executable]
        if self.processes > 1:
            launch += ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(self.processes), "--num_machines", "1",
                       "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
        resume = ["resume=auto"] if folder.exists() else []
        line = [*launch, f"recipes/{self.recipe}.py", f"--output_dir={folder}", *self.arguments, *resume, *more]

        def before() -> None:
            os.setsid()
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.Popen(
            line,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=before,
        )

    def finish(self, folder: Path) -> str:
        """Run sessions until the run ends; return the output of the last one."""
        for _ in range(MOST_SESSIONS):
            process = self.start(folder)
            output = process.communicate()[0]
            if process.returncode == 0 or "has completed its" in output:  # killed after its end
                return output
        raise RuntimeError(f"{folder} did not end in {MOST_SESSIONS} sessions: {output[-1500:]}")


def fingerprint(folder: Path) -> dict[str, object]:
    """Return what must be the same in two runs: the weights, and the metrics of each step.

    Left out are metrics that measure time, and those that count calls to a judge, which a resumed run finds in its cache.
    """
    weights = hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = (
        "time",
        "second",
        "latency",
        "outside_model_share",
        "num_tokens",
        "cache_hits",
        "calls",
        "tokens",
        "dollars",
    )
    metrics = [
        (r["step"], {k: v for k, v in r["metrics"].items() if not any(word in k for word in timed)}) for r in rows
    ]
    return {"weights": weights, "metrics": metrics}


def kill_at_random(runs: Runs, whole: Path, seconds: float, kills: int, rng: random.Random) -> Outcome:
    """Kill a session at a random instant of its duration, once per run, and resume."""
    outcome = Outcome(f"SIGKILL at {kills} random instants", runs.recipe, runs.processes)
    expected = fingerprint(whole)
    for _ in range(kills):
        folder = runs.folder()
        process = runs.start(folder)
        instant = rng.uniform(0.1, 1.0) * seconds
        try:
            process.communicate(timeout=instant)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        outcome.runs += 1
        try:
            if process.returncode != 0:
                runs.finish(folder)
            if fingerprint(folder) == expected:
                outcome.ended_right += 1
            else:
                outcome.details += f"killed after {instant:.1f} s: another result; "
        except (RuntimeError, OSError, ValueError) as error:
            outcome.details += f"killed after {instant:.1f} s: {str(error)[:200]}; "
    return outcome


def damage(runs: Runs, whole: Path, name: str, harm: Callable[[Path], None]) -> Outcome:
    """Damage the newest checkpoint of a run that was killed after it, and resume."""
    outcome = Outcome(name, runs.recipe, runs.processes, runs=1)
    folder = runs.folder()
    process = runs.start(folder)
    checkpoint = folder / "checkpoints" / "checkpoint-4"
    until = time.monotonic() + 600
    while process.poll() is None and not (checkpoint / "rlcap_state.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    harm(checkpoint)
    output = runs.finish(folder)
    right = fingerprint(folder) == fingerprint(whole) and "passing over checkpoint-4" in output
    outcome.ended_right, outcome.details = int(right), "" if right else output[-300:]
    return outcome


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    """Overwrite a file with as many zeros."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "one bit of the adapter in the newest checkpoint": lambda path: flip_bit(path / "adapter_model.safetensors"),
    "one bit of the optimiser in the newest checkpoint": lambda path: flip_bit(path / "optimizer.pt"),
    "zeros in the newest checkpoint": lambda path: zero(path / "optimizer.pt"),
    "trainer_state.json that is not UTF-8": lambda path: (path / "trainer_state.json").write_bytes(b"\xff\xfe{"),
    "rlcap_state.json that is empty": lambda path: (path / "rlcap_state.json").write_bytes(b""),
}


def full_disk(runs: Runs) -> Outcome:
    """Let every file end at 64 kB, as a full disk would end the write of a checkpoint."""
    outcome = Outcome("a disk without room for a checkpoint", runs.recipe, runs.processes, runs=1)
    folder = runs.folder()
    output = runs.start(folder, limit=64_000).communicate()[0]
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    ok = len(lines) == 1 and "can't be written to" in lines[0] and "Traceback" not in output
    outcome.ended_right, outcome.details = int(ok), "" if ok else output[-400:]
    return outcome


def folder_in_use(runs: Runs) -> Outcome:
    """Start a second session in the folder of a session that is running."""
    outcome = Outcome("two sessions in one folder", runs.recipe, runs.processes, runs=1)
    folder = runs.folder()
    first = runs.start(folder, "train.steps=500")
    while first.poll() is None and not (folder / "metrics.jsonl").exists():
        time.sleep(0.05)
    output = runs.start(folder).communicate()[0]
    ok = first.poll() is None and f"is in use by process {first.pid}" in output and "Traceback" not in output
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    outcome.ended_right, outcome.details = int(ok), "" if ok else output[-400:]
    return outcome


def make_pairs(work: Path) -> Path:
    """Write 14 preference pairs on images of the lab: the text of an image against that of the next one."""
    from rlcap.config.loading import load_config
    from rlcap.config.supervised import SFTConfig
    from rlcap.data.source import instruction_for, load_splits

    config = load_config(SFTConfig, ROOT / "recipes" / "configs" / "lab_sft.yaml", SMALL["sft"])
    rows = load_splits(config.data)[0]["train"]
    instruction = instruction_for(config.data)
    pairs = [
        {"image": str(Path(row.image).resolve()), "prompt": instruction, "chosen": row.paragraph, "rejected": rows[i - 1].paragraph}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    path = work / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def measure(
    work: Path, recipes: Sequence[str], processes: Sequence[int], kills: int, seed: int, faults: Sequence[str] = FAULTS
) -> Iterator[list[Outcome]]:
    """Inject the kinds of faults; yield the outcomes of one recipe on one number of processes at a time."""
    pairs = make_pairs(work)
    for recipe in recipes:
        for count in processes:
            outcomes, rng = [], random.Random(f"{seed}/{recipe}/{count}")
            runs = Runs(work, recipe, count, pairs)
            whole, start = runs.folder(), time.monotonic()
            runs.finish(whole)
            seconds = time.monotonic() - start
            if "kills" in faults:
                outcomes.append(kill_at_random(runs, whole, seconds, kills, rng))
                report(outcomes[-1])
            for name, harm in DAMAGES.items() if count == 1 and "damages" in faults else ():
                outcomes.append(damage(runs, whole, name, harm))
                report(outcomes[-1])
            for fault in (full_disk, folder_in_use) if count == 1 and "stops" in faults else ():
                outcomes.append(fault(runs))
                report(outcomes[-1])
            yield outcomes


def merge(path: Path | None, kills: int, seed: int, outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """Return the rows of the file of results: `outcomes`, and what an earlier call measured of other recipes and faults.

    Rows of another number of kills or of another seed are dropped, so that the table describes one experiment.
    """
    rows = [asdict(outcome) for outcome in outcomes]
    measured = {(row["recipe"], row["processes"], row["fault"]) for row in rows}
    if path is not None and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if (before["kills"], before["seed"]) == (kills, seed):
            rows += [
                row for row in before["outcomes"] if (row["recipe"], row["processes"], row["fault"]) not in measured
            ]
    return sorted(rows, key=lambda row: (RECIPES.index(str(row["recipe"])), str(row["processes"])))


def report(outcome: Outcome) -> None:
    """Print one line of the table as soon as it is known."""
    right = f"{outcome.ended_right} of {outcome.runs}"
    print(
        f"| {outcome.recipe} × {outcome.processes} | {outcome.fault} | {right} | {outcome.details[:120]} |", flush=True
    )


def main() -> int:
    """Run the benchmark; the exit code is 1 if a run was lost or came to another result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed, per recipe (default: %(default)s)")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="numbers of processes (default: 1 2)")
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=FAULTS,
        default=list(FAULTS),
        help="kinds of faults (default: all); stops are faults that must stop a run",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the instants (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    print("| recipe × processes | fault | ended right | details |\n|---|---|---|---|")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="survival-") as work:
        for part in measure(
            Path(work), options.recipes, options.processes, options.kills, options.seed, options.faults
        ):
            outcomes += part  # written at once: hours of work must not depend on the last of them
            rows = merge(options.json, options.kills, options.seed, outcomes)
            write_json(options.json, kills=options.kills, seed=options.seed, outcomes=rows)
    lost = sum(outcome.runs - outcome.ended_right for outcome in outcomes)
    print(f"{sum(outcome.runs for outcome in outcomes)} runs met a fault; {lost} were lost or came to another result")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
