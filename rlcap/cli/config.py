"""`rlcap config`: lists all keys of a configuration with type, default and meaning."""

from __future__ import annotations

import argparse
from typing import Any

from rlcap.cli.arguments import command
from rlcap.cli.train import RECIPES


def add(commands: Any) -> None:
    """Add the command."""
    config = command(
        commands, "config", _config, "list all keys of the configuration of a recipe with type, default and meaning"
    )
    config.add_argument(
        "recipe", nargs="?", choices=RECIPES, default="grpo", help="name of the recipe (default: %(default)s)"
    )
    config.add_argument("--markdown", action="store_true", help="print the page of the documentation for all recipes")


def _config(options: argparse.Namespace) -> None:
    from rlcap.config import describe, schema, supervised
    from rlcap.config.section import Section

    kinds: dict[str, type[Section]] = {
        "grpo": schema.GRPOConfig,
        "ppo": schema.PPOConfig,
        "sft": supervised.SFTConfig,
        "dpo": supervised.DPOConfig,
        "refine": supervised.RefineConfig,
    }
    if options.markdown:
        print(describe.to_markdown(kinds))
    else:
        print(describe.to_text(kinds[options.recipe]))
