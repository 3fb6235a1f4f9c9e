"""Which properties of each captioner family are tested, according to the tests that ran.

    python benchmarks/families.py                          runs tests/policy and tests/train on every family, prints the table
    python benchmarks/families.py --only llava             on one family; may be given several times
    python benchmarks/families.py --json families.json     writes the results; with --only, renews these families in the file

A tick means that every test behind the column passed for the family; a dash means that it does not apply (skipped). A column whose test did
not run is an error. The whole run takes about 11 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from rlcap.policy.families.registry import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
FILES = ("tests/policy/test_families.py", "tests/train/test_families.py")
COLUMNS = {
    "shared prefix = plain path": (
        "test_shared_and_plain_paths_agree",
        "test_shared_and_plain_paths_agree_if_all_parameters_are_trained",
    ),
    "greedy = its own `generate`": ("test_greedy_captions_equal_those_of_generate",),
    "frozen tower once an image": (
        "test_a_frozen_vision_side_runs_once_per_image",
        "test_a_frozen_vision_encoder_before_a_trained_projector_runs_once_per_image",
    ),
    "ragged batch = singles": ("test_a_ragged_batch_gives_the_same_results_as_single_prompts",),
    "gradient checkpointing": ("test_checkpointed_layers_share_the_prefix",),
    "bf16": ("test_shared_and_plain_paths_agree_in_bfloat16",),
    "LoRA choices": ("test_lora_modules_of_each_choice",),
    "several images": ("test_a_prompt_can_have_several_images",),
    "SFT": ("test_supervised_training_works",),
    "GRPO": ("test_reinforcement_works-grpo",),
    "PPO": ("test_reinforcement_works-ppo",),
}
MARKS = {"passed": "✓", "skipped": "–", "failed": "✗"}


def outcomes(report: Path) -> dict[str, dict[str, str]]:
    """Return family → test → passed, skipped or failed."""
    by_family: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        match = re.fullmatch(r"(\w+)\[(.+)\]", case.get("name", ""))
        if not match:
            continue
        test, family = match.groups()
        for algorithm in ("grpo", "ppo"):
            if family.endswith(f"-{algorithm}"):
                test, family = f"{test}-{algorithm}", family.removesuffix(f"-{algorithm}")
        kinds = {child.tag for child in case}
        by_family[family][test] = (
            "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        )
    return by_family


def cell(tests: dict[str, str], names: tuple[str, ...]) -> str:
    """Return the worst outcome of the tests behind a column: failed, passed or skipped.

    Raises:
        KeyError: one of the tests did not run.
    """
    outcomes_seen = {tests[name] for name in names}
    return next(kind for kind in ("failed", "passed", "skipped") if kind in outcomes_seen)


def absent_tests(results: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return `family: test` for each test behind a column that did not run for a family."""
    wanted = [name for names in COLUMNS.values() for name in names]
    return [f"{family}: {name}" for family, tests in results.items() for name in wanted if name not in tests]


def selection(family: str) -> str:
    """Return the expression that selects a family's tests by pytest's `-k`, whose names may not hold a blank."""
    if " " in family:
        return f"([{family.replace(' ', ' and ')})"
    return f"[{family}] or [{family}-grpo] or [{family}-ppo]"


def table(results: dict[str, dict[str, str]]) -> str:
    """Return the table in Markdown."""
    lines = ["| family | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for family in sorted(results):
        lines.append(f"| {family} | " + " | ".join(MARKS[results[family][name]] for name in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the tests, print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", choices=sorted(FAMILIES), help="this family alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    args = parser.parse_args()
    chosen = ["-k", " or ".join(map(selection, args.only))] if args.only else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", *FILES, "-m", "", *chosen, f"--junitxml={report}"], cwd=ROOT, check=False
        )
        found = {family: tests for family, tests in outcomes(report).items() if family in (args.only or FAMILIES)}
    if missing := absent_tests({family: found.get(family, {}) for family in args.only or FAMILIES}):
        sys.exit("these tests did not run; correct COLUMNS or the tests: " + ", ".join(missing))
    results = {family: {name: cell(tests, names) for name, names in COLUMNS.items()} for family, tests in found.items()}
    text = table(results)
    print(text)
    if args.json:
        known = json.loads(args.json.read_text()) if args.only and args.json.is_file() else {}
        args.json.write_text(json.dumps(known | results, indent=1) + "\n")
    sys.exit(any("failed" in row.values() for row in results.values()))


if __name__ == "__main__":
    main()
