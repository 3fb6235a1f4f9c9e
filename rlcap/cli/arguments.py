"""What several commands' arguments have in common."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcap.types import Sample

SOURCE = "a .jsonl file, a COCO captions .json, a Hugging Face data set's folder, or a data source module:Class"


def command(commands: Any, name: str, run: Callable, help: str) -> argparse.ArgumentParser:
    """A subcommand that calls `run(options)`, with the same text as help and description."""
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(run=run, takes_overrides=False)
    return parser


def group(commands: Any, name: str, help: str) -> Any:
    """A command whose first argument is another command."""
    return commands.add_parser(name, help=help).add_subparsers(metavar="ACTION", required=True)


def add_rows(parser: argparse.ArgumentParser, source: str) -> None:
    """SOURCE and what says how it is read; `rows` reads it."""
    parser.add_argument("source", help=source)
    parser.add_argument("--image-root", help="folder that image paths start from (default: the source's own)")
    parser.add_argument("--on-bad", choices=("error", "skip"), help="a bad row stops (the default), or is counted")
    parser.set_defaults(takes_overrides=True)


def rows(options: argparse.Namespace, check_images: bool = True) -> Sequence[Sample]:
    """Return the rows of SOURCE as training would read them, by what `data.` overrides and the options say.

    Args:
        options: of a command with `add_rows`.
        check_images: whether image files are looked at.
    """
    from rlcap.config.loading import load_config
    from rlcap.config.schema import SFTConfig
    from rlcap.data.source import load_rows
    from rlcap.errors import ConfigError

    if strangers := [text for text in options.overrides if not text.lstrip("-").startswith("data.")]:
        raise ConfigError(f"{strangers[0]}: only data. overrides apply here, such as data.columns.references=captions")
    data = load_config(SFTConfig, None, options.overrides).data
    given = {"source": options.source, "image_root": options.image_root, "on_bad": options.on_bad}
    data = data.model_copy(update={key: value for key, value in given.items() if value is not None})
    return load_rows(data, check_images)


def lab_config() -> Path:
    """Return the configuration of the embedded lab, which commands take where none is named."""
    spec = importlib.util.find_spec("rlcap.recipes")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the recipes are not installed: pip install rlcap, or pip install -e . in a clone")
    return Path(spec.submodule_search_locations[0]) / "configs" / "lab.yaml"


def positive(text: str) -> int:
    """For argparse: a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def folder(text: str) -> Path:
    """For argparse: a folder that exists."""
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def share(text: str) -> float:
    """For argparse: a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 to 1, got {number}")
    return number
