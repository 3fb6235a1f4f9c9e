"""The command line of a recipe: a YAML file, and values that override it.

The module imports no large package, so that help and error messages appear immediately.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

from rlcap.config.loading import load_config
from rlcap.config.required import AnyConfig, require_complete
from rlcap.errors import InputError

Config = TypeVar("Config", bound=AnyConfig)


def parse(kind: type[Config], description: str, default: Path, below: Path | None = None) -> Config:
    """Return the checked configuration that the command line asks for. An error in it ends the process with a message.

    Args:
        kind: The class of the configuration.
        description: The docstring of the recipe, which `--help` shows.
        default: The YAML file that is read without `--config`.
        below: A YAML file whose values apply where `default` sets none.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="`rlcap config RECIPE` lists all keys with their defaults and meanings.",
    )
    parser.add_argument("--config", help=f"YAML file (default: {default.name}, the embedded lab)")
    parser.add_argument("--output_dir", help="run folder (default: runs/<name>)")
    arguments, overrides = parser.parse_known_args()
    overrides += [f"output_dir={arguments.output_dir}"] if arguments.output_dir else []
    file, defaults = (arguments.config, None) if arguments.config else (default, below)
    try:
        config = load_config(kind, file, overrides, defaults=defaults)
        require_complete(config)
    except InputError as error:
        parser.error(str(error))
    return config
