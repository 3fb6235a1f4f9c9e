"""How long does the main job take from nothing, and how much memory does it need?

    python benchmarks/main_job.py --json benchmarks/results/main_job.json

Runs `accelerate launch recipes/grpo.py` as the README does, with an empty cache. It needs the machine to itself. The
memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from lab_runs import run_timed, write_json

SHOWN = ("bag5_recall_at_1", "hallucination_rate", "fact_recall", "repetition")


def main() -> None:
    """Run the main job, print its cost and its changes, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides, e.g. train.steps=4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RLCAP_CACHE"] = str(Path(folder) / "cache")
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "accelerate.commands.launch", "recipes/grpo.py", f"--output_dir={run}"]
        cost = run_timed([*command, *options.overrides], threads=os.cpu_count() or 1)
        summary = json.loads((run / "summary.json").read_text())
    change = next(change for change in summary["changes"] if change["split"] == "test")
    print(f"{cost['seconds']:.0f} s, {cost['peak_mb'] / 1000:.2f} GB, {summary['steps']} steps\n")
    print("| metric | before | after | difference |\n|---|---|---|---|")
    for name in SHOWN:
        values = change["metrics"][name]
        difference = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**values["difference"])
        print(f"| {name} | {values['before']:.3f} | {values['after']:.3f} | {difference} |")
    write_json(options.json, **cost, steps=summary["steps"], overrides=options.overrides, test=change["metrics"])


if __name__ == "__main__":
    main()
