"""Train several variants of the main job with several seeds, and compare the held-out captions.

Shared by `mixes.py`, `bags.py`, `hacked.py` and `ppo.py`, each of which asks one question.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rlcap.eval.captions_file import evaluated_steps, read_tables
from rlcap.eval.metric_catalog import CATALOG
from rlcap.eval.statistics import difference_across_seeds, mean_across_seeds, relative_change_across_seeds
from rlcap.io.json_values import nan_to_null

ROOT = Path(__file__).resolve().parent.parent
INTERVALS = "over clusters of images, and seeds as a level"
"""What a results file says of its intervals. One that says nothing has those of rlcap 0.1, a bootstrap over images."""


def parse_arguments(question: str, out: str) -> argparse.Namespace:
    """Parse the options that the benchmarks share."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="training seeds (default: 0 1 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs") / out, help="where the runs go; finished ones are kept"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at once; they share the cores (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides for every run, e.g. train.steps=4")
    return parser.parse_args()


def train(
    options: argparse.Namespace, variants: Mapping[str, Sequence[str]], recipes: Mapping[str, str] | None = None
) -> dict:
    """Run each (variant, seed) that has not ended yet.

    Args:
        options: the options.
        variants: variant → dotted overrides.
        recipes: variant → recipe, where it is not GRPO.

    Returns:
        {variant: {seed: seconds and peak MB}}.
    """
    runs = [(name, seed) for name in variants for seed in options.seeds]

    def run_one(run: tuple[str, int]) -> dict[str, float]:
        name, seed = run
        folder = options.out / f"{name}-{seed}"
        if not (folder / "cost.json").exists():
            print(f"running {name}, seed {seed} → {folder}", file=sys.stderr, flush=True)
            recipe = (recipes or {}).get(name, "recipes/grpo.py")
            command = [sys.executable, "-m", "accelerate.commands.launch", recipe, f"--output_dir={folder.resolve()}"]
            changes = [f"train.seed={seed}", "data.options.prior_breaking=154", *variants[name], *options.overrides]
            cost = run_timed([*command, *changes], threads=max(1, (os.cpu_count() or 1) // options.jobs))
            (folder / "cost.json").write_text(json.dumps(cost))
        return json.loads((folder / "cost.json").read_text())

    with ThreadPoolExecutor(options.jobs) as pool:
        costs = list(pool.map(run_one, runs))
    return {name: {seed: costs[runs.index((name, seed))] for seed in options.seeds} for name in variants}


def run_timed(command: Sequence[str], threads: int) -> dict[str, float]:
    """Run a command and return its seconds, and the peak memory in MB of the largest of its processes.

    Raises:
        CalledProcessError: where the command fails.
    """
    start = time.time()
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": time.time() - start, "peak_mb": usage.ru_maxrss / 1024}


def image_clusters(out: Path, name: str, seeds: Sequence[int], split: str) -> list[str] | None:
    """Return the family of each image, in the order of `metric_values`; None for runs of rlcap 0.1, which name none."""
    folder = out / f"{name}-{seeds[0]}"
    return read_tables(folder, evaluated_steps(folder)[0])[split].clusters


def metric_values(out: Path, name: str, seeds: Sequence[int], split: str, metric: str, last: bool) -> list[np.ndarray]:
    """Return the per-image values of a metric for each seed, at the first or last evaluated step.

    The images are in the same order everywhere.
    """
    by_seed = []
    for seed in seeds:
        folder = out / f"{name}-{seed}"
        table = read_tables(folder, evaluated_steps(folder)[-1 if last else 0])[split]
        by_seed.append(table.metrics[metric])
    return by_seed


def metric_intervals(out: Path, name: str, seeds: Sequence[int], split: str, metric: str) -> dict:
    """Return start, end, difference and relative change of a metric, each {mean, low, high}.

    The difference is also given for each seed, with its interval over images of that seed.
    """
    clusters = image_clusters(out, name, seeds, split)
    before, after = (metric_values(out, name, seeds, split, metric, last) for last in (False, True))
    intervals = {
        "start": mean_across_seeds(before, clusters),
        "end": mean_across_seeds(after, clusters),
        "difference": difference_across_seeds(before, after, clusters),
        "relative": relative_change_across_seeds(before, after, clusters),
    }
    by_seed = [
        difference_across_seeds([first], [last_values], clusters)._asdict()
        for first, last_values in zip(before, after, strict=True)
    ]
    return {key: value._asdict() for key, value in intervals.items()} | {"difference_by_seed": by_seed}


def measure(out: Path, names: Sequence[str], seeds: Sequence[int], columns: Sequence[str]) -> dict[str, dict]:
    """Return variant → column, such as `test/fact_recall` → `metric_intervals`."""
    return {
        name: {column: metric_intervals(out, name, seeds, *column.split("/")) for column in columns} for name in names
    }


def gap(out: Path, names: tuple[str, str], seeds: Sequence[int], column: str) -> dict:
    """Return the second variant's mean at its last step minus the first's, {mean, low, high, …}, and print it."""
    split, metric = column.split("/")
    ends = [metric_values(out, name, seeds, split, metric, True) for name in names]
    found = difference_across_seeds(*ends, image_clusters(out, names[0], seeds, split))
    print(f"  {column}: {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
    return found._asdict()


def print_table(title: str, results: Mapping[str, Mapping[str, Mapping]], columns: Sequence[str]) -> None:
    """Print a Markdown table: one line for each variant, one column for each metric.

    A cell holds the value at the end, and its difference to the start with an interval.
    """
    print(f"\n{title}\n")
    labels = [
        getattr(CATALOG.get(column.split("/")[-1]), "label", column) + f" ({column.split('/')[0]})"
        for column in columns
    ]
    print("| variant | " + " | ".join(labels) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, metrics in results.items():
        cells = []
        for column in columns:
            end, change = metrics[column]["end"], metrics[column]["difference"]
            cells.append(f"{end['mean']:.3f} ({change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}])")
        print(f"| {name} | " + " | ".join(cells) + " |")


def write_json(path: Path | None, **content: object) -> None:
    """Write the measurements, with the machine they were made on."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        path.write_text(json.dumps(nan_to_null({"machine": machine, **content}), indent=2, allow_nan=False) + "\n")
