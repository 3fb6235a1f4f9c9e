"""`rlcap lab`: exports images of the embedded lab, or trains its models again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, group, positive


def add(commands: Any) -> None:
    """Add the command and its actions."""
    lab = group(commands, "lab", "export images of the embedded lab, or build its models")
    export = command(lab, "export", _lab_export, "write the images of a split with scenes.jsonl and references.jsonl")
    export.add_argument(
        "--split", default="test", help="train, validation, test or prior_breaking (default: %(default)s)"
    )
    export.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: %(default)s)")
    export.add_argument("--count", type=positive, default=308, help="number of images (default: %(default)s)")
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    build = command(lab, "build", _lab_build, "train the models of the lab from a seed on the CPU")
    build.add_argument("--out", type=Path, help="folder to write (default: the assets inside the package)")
    build.add_argument(
        "--seed", type=int, default=0, help="seed (default: %(default)s, as for the models in the repository)"
    )
    build.add_argument("--only", action="append", metavar="NAME", help="build this asset only; can be repeated")


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
