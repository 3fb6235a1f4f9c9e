"""`rlcap lab`: the embedded world, for other code and from its seed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, group, positive


def add(commands: Any) -> None:
    """Add the command and its actions."""
    lab = group(commands, "lab", "the embedded world: export it, or build its models")
    export = command(lab, "export", _lab_export, "write images, scenes.jsonl and references.jsonl of a split")
    export.add_argument(
        "--split", default="test", help="train, validation, test or prior_breaking (default: %(default)s)"
    )
    export.add_argument("--seed", type=int, default=0, help="another seed draws other scenes (default: %(default)s)")
    export.add_argument("--count", type=positive, default=308, help="images (default: %(default)s)")
    export.add_argument("--out", type=Path, required=True, help="folder, made where it is missing")
    build = command(lab, "build", _lab_build, "train the lab's models from a seed, on the CPU")
    build.add_argument("--out", type=Path, help="folder (default: the package's own assets, in place)")
    build.add_argument("--seed", type=int, default=0, help="default: %(default)s, that of the models in the repository")
    build.add_argument("--only", action="append", metavar="NAME", help="this asset alone; may be repeated")


def _lab_export(options: argparse.Namespace) -> None:
    from rlcap.errors import ConfigError
    from rlcap.lab.source import BUCKETS, export

    if options.split not in BUCKETS:
        raise ConfigError(f"--split {options.split}: the lab has {', '.join(BUCKETS)}")
    export(options.split, options.count, options.seed, options.out)
    print(f"{options.count} images of {options.split} (seed {options.seed}) in {options.out}")


def _lab_build(options: argparse.Namespace) -> None:
    from rlcap.errors import ConfigError
    from rlcap.lab.assets import ASSETS, NAMES

    if unknown := sorted(set(options.only or ()) - set(NAMES)):
        raise ConfigError(f"--only {' '.join(unknown)}: the lab's assets are {', '.join(NAMES)}")
    from rlcap.lab.build import build

    build(options.out or ASSETS, options.seed, options.only, log=print)
