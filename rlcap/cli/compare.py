"""`rlcap compare`: runs beside runs, on the same held-out images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command


def add(commands: Any) -> None:
    """Add the command."""
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


def _compare(options: argparse.Namespace) -> None:
    from rlcap.eval.compare import compare, to_markdown
    from rlcap.io.atomic import write_json

    found = compare([variant.split(",") for variant in options.runs], options.split, options.every)
    print(to_markdown(found))
    if options.json:
        write_json(options.json, found.to_dict(), "the comparison", indent=1, allow_nan=False)
