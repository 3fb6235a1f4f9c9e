"""How long does the main job take, and how much memory, from nothing?

    python benchmarks/main_job.py --json benchmarks/results/main_job.json

Runs `accelerate launch recipes/grpo.py` as the README does, with an empty cache. Needs the machine to itself. Memory is that of
the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from lab_runs import timed, write_json

SHOWN = ("bag5_recall_at_1", "hallucination_rate", "fact_recall", "repetition")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides, e.g. train.steps=4")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLCAP_CACHE"] = str(Path(folder) / "cache")
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "accelerate.commands.launch", "recipes/grpo.py", f"--output_dir={run}"]
        cost = timed([*command, *asked.overrides], threads=os.cpu_count() or 1)
        summary = json.loads((run / "summary.json").read_text())
    change = next(change for change in summary["changes"] if change["split"] == "test")
    print(f"{cost['seconds']:.0f} s, {cost['peak_mb'] / 1000:.2f} GB, {summary['steps']} steps\n")
    print("| metric | before | after | difference |\n|---|---|---|---|")
    for name in SHOWN:
        found = change["metrics"][name]
        difference = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**found["difference"])
        print(f"| {name} | {found['before']:.3f} | {found['after']:.3f} | {difference} |")
    write_json(asked.json, **cost, steps=summary["steps"], overrides=asked.overrides, test=change["metrics"])


if __name__ == "__main__":
    main()
