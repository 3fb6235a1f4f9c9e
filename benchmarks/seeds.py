"""Does the main job hold over training seeds? Held-out changes per seed and over all seeds, and the alarms that were raised.

    python benchmarks/seeds.py --json benchmarks/results/seeds.json          five runs of the main job; finished ones are kept

No reward of the default mix has read the truth about an image. With --config recipes/configs/lab_oracle.yaml a judge has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from lab_runs import INTERVALS, ROOT, write_json

from rlcap.eval.captions_file import evaluated_steps, read_tables
from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.statistics import difference_across_seeds

SHOWN = (
    "bag5_recall_at_1", "hallucination_rate", "hallucinated", "fact_recall", "wrong_unseen", "repetition", "mean_words", "grammatical",
)  # fmt: skip
SPLIT = "test"
LAB = ROOT / "recipes" / "configs" / "lab.yaml"


def run_seed(folder: Path, seed: int, config: Path, overrides: list[str]) -> None:
    """Run the main job with one seed, unless its folder holds a finished run."""
    if (folder / "summary.json").exists():
        return
    print(f"running seed {seed} → {folder}", file=sys.stderr, flush=True)
    line = [sys.executable, "-m", "accelerate.commands.launch", "recipes/grpo.py", f"--config={config}"]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    subprocess.run(
        [*line, f"--output_dir={folder.resolve()}", f"train.seed={seed}", *overrides],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def measure(folders: dict[int, Path]) -> dict[str, object]:
    """Return, for each metric of the test split, the means per seed and the difference over all seeds."""
    tables = {
        seed: {step: read_tables(folder, step)[SPLIT] for step in (0, evaluated_steps(folder)[-1])}
        for seed, folder in folders.items()
    }
    first = next(iter(tables.values()))[0]
    metrics = {}
    for name in SHOWN:
        before = [next(iter(table.values())).metrics[name] for table in tables.values()]
        after = [list(table.values())[-1].metrics[name] for table in tables.values()]
        means = [float(sum(v for v in values if v == v) / sum(v == v for v in values)) for values in after]
        metrics[name] = {
            "before": float(sum(v for v in before[0] if v == v) / sum(v == v for v in before[0])),
            "after": dict(zip(map(str, folders), means, strict=True)),
            "median": median(means),
            "difference": difference_across_seeds(before, after, first.clusters)._asdict(),
        }
    alarms = {
        str(seed): json.loads((folder / "summary.json").read_text())["alarms"] for seed, folder in folders.items()
    }
    return {
        "metrics": metrics,
        "alarms": alarms,
        "images": len(first.ids),
        "clusters": len(set(first.clusters or first.ids)),
    }


def main() -> None:
    """Run what is missing, print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="training seeds (default: 0 to 4)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/seeds"), help="where the runs go; finished ones are kept"
    )
    parser.add_argument("--config", type=Path, default=LAB, help="configuration of the runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides for every run, e.g. train.steps=4")
    options = parser.parse_args()
    folders = {seed: options.out / f"seed-{seed}" for seed in options.seeds}
    for seed, folder in folders.items():
        run_seed(folder, seed, options.config, options.overrides)
    found = measure(folders)
    print(
        f"| metric | before | after: median [lowest, highest] of {len(folders)} seeds | difference [95 % interval] |\n|---|---|---|---|"
    )
    for name, values in found["metrics"].items():
        after = list(values["after"].values())
        difference = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**values["difference"])
        label = metric_info(name).label
        print(
            f"| {label} | {values['before']:.3f} | {values['median']:.3f} [{min(after):.3f}, {max(after):.3f}] | {difference} |"
        )
    raised = {seed: [alarm["split"] for alarm in alarms] for seed, alarms in found["alarms"].items() if alarms}
    print(f"alarms at the end: {raised or 'none'}")
    write_json(
        options.json,
        intervals=INTERVALS,
        seeds=options.seeds,
        config=options.config.name,
        overrides=options.overrides,
        split=SPLIT,
        **found,
    )


if __name__ == "__main__":
    main()
