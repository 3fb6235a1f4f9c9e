"""`rlcap report`: writes the summary and the report of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command


def add(commands: Any) -> None:
    """Add the command."""
    report = command(commands, "report", _report, "write summary.json and report.html of a run again")
    report.add_argument("run_dir", type=Path, help="run folder")


def _report(options: argparse.Namespace) -> None:
    from rlcap.eval.report.page import write_report
    from rlcap.eval.summary import summarise

    summarise(options.run_dir)
    print(write_report(options.run_dir))
