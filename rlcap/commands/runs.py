"""`rlcap eval | report`: what came of a run, or of captions from anywhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.commands.arguments import command


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

    report = command(commands, "report", _report, "make summary.json and report.html of a run again")
    report.add_argument("run_dir", type=Path, help="the run folder")


def _eval(options: argparse.Namespace) -> None:
    from rlcap.config import GRPOConfig, load_config
    from rlcap.score import evaluate_captions, summary_table

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        print(summary_table(summarise(options.target)))
    else:
        config = load_config(GRPOConfig, options.config, options.overrides)
        print(evaluate_captions(options.target, config, options.split))


def _report(options: argparse.Namespace) -> None:
    from rlcap.eval.report import write_report
    from rlcap.eval.summary import summarise

    summarise(options.run_dir)
    print(write_report(options.run_dir))
