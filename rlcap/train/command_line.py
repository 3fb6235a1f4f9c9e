"""A recipe's command line: a YAML file and single values over it. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.config.checks import check
from rlcap.config.loading import load_config
from rlcap.errors import InputError


def parse(kind: type, description: str, lab: Path | None = None, under: Path | None = None) -> Any:
    """The checked config of `kind` that the command line asks for; a mistake in it ends the process with one line.

    lab: the YAML file that is read where `--config` names none (default: the values in rlcap/config/schema.py are the lab's);
    under: one that it builds on.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help=f"YAML file (default: {lab or 'the lab'})")
    parser.add_argument("--output_dir", help="run folder (default: runs/<name>)")
    arguments, overrides = parser.parse_known_args()
    overrides += [f"output_dir={arguments.output_dir}"] if arguments.output_dir else []
    try:
        chosen = (arguments.config, None) if arguments.config else (lab, under)
        config = load_config(kind, chosen[0], overrides, defaults=chosen[1])
        check(config)
    except InputError as error:
        parser.error(str(error))
    return config
