"""`rlcap compare`: compares runs on the same held-out images."""

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
        "compare runs on the same held-out images, and print the differences with confidence intervals",
    )
    compare.add_argument(
        "runs", nargs="+", help="two or more run folders; join several seeds of a variant by commas: runs/a-0,runs/a-1"
    )
    compare.add_argument("--split", default="test", help="held-out split (default: %(default)s)")
    compare.add_argument("--all", action="store_true", dest="every", help="compare all metrics, not only the main ones")
    compare.add_argument("--json", type=Path, help="file for all results")
    compare.add_argument(
        "--html", type=Path, help="file for a page with the table and with what the rewards said of which words"
    )


def _compare(options: argparse.Namespace) -> None:
    from rlcap.eval.compare import compare, to_markdown
    from rlcap.io.atomic import write_json

    variants = [variant.split(",") for variant in options.runs]
    found = compare(variants, options.split, options.every)
    print(to_markdown(found))
    if options.json:
        write_json(options.json, found.to_dict(), "the comparison", indent=1)
    if options.html:
        from rlcap.eval.report.compare_page import write_comparison

        write_comparison(options.html, found, variants)
        print(f"\n{options.html}")
