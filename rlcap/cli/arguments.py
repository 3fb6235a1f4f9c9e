"""Arguments that several commands have in common."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcap.types import Sample

SOURCE = "a .jsonl file, a COCO captions .json, the folder of a Hugging Face data set, or a data source module:Class"


def command(commands: Any, name: str, run: Callable, help: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Add a subcommand.

    Args:
        commands: The subparsers that argparse returned.
        name: Name of the subcommand.
        run: Called with the parsed options.
        help: Text for the list of commands, and for the help of the command itself.
        epilog: Text below the options, such as examples. Its line breaks are kept.
    """
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", epilog=epilog)
    if epilog:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run, takes_overrides=False)
    return parser


def group(commands: Any, name: str, help: str) -> Any:
    """Add a command whose first argument is another command, and return its subparsers."""
    return commands.add_parser(name, help=help).add_subparsers(metavar="ACTION", required=True)


def add_rows(parser: argparse.ArgumentParser, source: str) -> None:
    """Add the argument SOURCE and the options for reading it. `rows` then reads it.

    Args:
        parser: The parser of a command.
        source: Help text of SOURCE.
    """
    parser.add_argument("source", help=source)
    parser.add_argument("--image-root", help="folder to which image paths are relative (default: that of the source)")
    parser.add_argument(
        "--on-bad", choices=("error", "skip"), help="stop at a bad row (the default), or skip and count bad rows"
    )
    parser.set_defaults(takes_overrides=True)


def rows(options: argparse.Namespace, check_images: bool = True) -> Sequence[Sample]:
    """Return the rows of SOURCE as training would read them, with the options and the `data.` overrides applied.

    Args:
        options: Options of a command with `add_rows`.
        check_images: Whether to open the image files.

    Raises:
        ConfigError: An override does not belong to `data.`, or has an unknown key.
        DataError: The source can't be read.
    """
    from rlcap.config.loading import load_config
    from rlcap.config.supervised import SFTConfig
    from rlcap.data.source import load_rows
    from rlcap.errors import ConfigError

    if strangers := [text for text in options.overrides if not text.lstrip("-").startswith("data.")]:
        raise ConfigError(
            f"{strangers[0]}: this command accepts data. overrides only, such as data.columns.id=image_id"
        )
    data = load_config(SFTConfig, None, options.overrides).data
    given = {"source": options.source, "image_root": options.image_root, "on_bad": options.on_bad}
    data = data.model_copy(update={key: value for key, value in given.items() if value is not None})
    return load_rows(data, check_images)


def lab_config() -> Path:
    """Return the path of the configuration of the embedded lab, which commands use by default.

    Raises:
        FileNotFoundError: The recipes are not installed.
    """
    spec = importlib.util.find_spec("rlcap.recipes")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the recipes are not installed: pip install rlcap, or pip install -e . in a clone")
    return Path(spec.submodule_search_locations[0]) / "configs" / "lab.yaml"


def positive(text: str) -> int:
    """Parse a whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def folder(text: str) -> Path:
    """Parse the path of an existing folder, for argparse."""
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def share(text: str) -> float:
    """Parse a number from 0 to 1, for argparse."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {number}")
    return number
