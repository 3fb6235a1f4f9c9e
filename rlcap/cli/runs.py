"""`rlcap eval | compare | report`: what came of a run, of several beside each other, or of captions from anywhere."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command


def add(commands: Any) -> None:
    evaluate = command(
        commands,
        "eval",
        _eval,
        "held-out metrics of a run's captions, or of captions from anywhere; key=value overrides",
    )
    evaluate.add_argument("target", type=Path, help="a run folder, or jsonl rows of sample_id and caption")
    evaluate.add_argument(
        "--config", type=Path, help="YAML with `data:` and `evaluation:` for a captions file (default: the lab)"
    )
    evaluate.add_argument("--split", default="test", help="split that the captions belong to (default: %(default)s)")
    evaluate.set_defaults(takes_overrides=True)

    compare = command(
        commands,
        "compare",
        _compare,
        "runs against runs on the same held-out images: what differs, with intervals",
    )
    compare.add_argument(
        "runs", nargs="+", help="two or more run folders; several seeds of a variant with commas: runs/a-0,runs/a-1"
    )
    compare.add_argument("--split", default="test", help="which held-out images (default: %(default)s)")
    compare.add_argument("--all", action="store_true", dest="every", help="every metric, not the main ones alone")
    compare.add_argument("--json", type=Path, help="write everything here too")

    report = command(commands, "report", _report, "make summary.json and report.html of a run again")
    report.add_argument("run_dir", type=Path, help="the run folder")


def _eval(options: argparse.Namespace) -> None:
    from rlcap.cli.captions_file import evaluate_captions, summary_table
    from rlcap.config.schema import GRPOConfig, load_config

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        print(summary_table(summarise(options.target)))
    else:
        config = load_config(GRPOConfig, options.config, options.overrides)
        print(evaluate_captions(options.target, config, options.split))


def _compare(options: argparse.Namespace) -> None:
    from rlcap.eval.captions_file import write_atomically
    from rlcap.eval.compare import compare, to_markdown

    found = compare([variant.split(",") for variant in options.runs], options.split, options.every)
    print(to_markdown(found))
    if options.json:
        write_atomically(options.json, json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")


def _report(options: argparse.Namespace) -> None:
    from rlcap.eval.report.page import write_report
    from rlcap.eval.summary import summarise

    summarise(options.run_dir)
    print(write_report(options.run_dir))
