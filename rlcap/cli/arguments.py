"""What several commands' arguments have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcap.data.formats import SampleSet


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


def rows(options: argparse.Namespace, check_images: bool = True) -> SampleSet:
    """The rows of SOURCE as training would read them: what `data.` overrides and the options say. check_images: as in
    `rlcap.data.formats.load_samples`."""
    from rlcap.config.checks import check
    from rlcap.config.schema import SFTConfig, load_config
    from rlcap.data.source import load_rows
    from rlcap.errors import ConfigError

    if strangers := [text for text in options.overrides if not text.lstrip("-").startswith("data.")]:
        raise ConfigError(f"{strangers[0]}: only data. overrides apply here, such as data.columns.references=captions")
    config = load_config(SFTConfig, None, options.overrides)
    told = {"source": options.source, "image_root": options.image_root, "on_bad": options.on_bad}
    config.data = replace(config.data, **{key: value for key, value in told.items() if value is not None})
    check(config)
    return load_rows(config.data, check_images)


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
