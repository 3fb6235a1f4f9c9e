"""`rlcap train RECIPE`: runs a recipe in this process, as `accelerate launch recipes/RECIPE.py` does in a clone."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from rlcap.cli.arguments import command

RECIPES = ("grpo", "ppo", "sft", "dpo", "refine")
EPILOG = """\
examples:
  rlcap train grpo                                            the embedded lab
  rlcap train sft --config configs/photos_sft.yaml            your own data and captioner
  rlcap train grpo --output_dir runs/a resume=auto            continue after a kill or Ctrl-C
  rlcap train grpo --help                                     show the help of the recipe

several GPUs: accelerate launch -m rlcap.recipes.grpo --config my.yaml
"""


def add(commands: Any) -> None:
    """Add the command. Arguments after the name of the recipe are the recipe's own command line."""
    train = command(commands, "train", _train, "run a recipe: grpo, ppo, sft, dpo or refine", EPILOG)
    train.add_argument("recipe", choices=RECIPES, help="name of the recipe")
    train.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="--config FILE, --output_dir FOLDER and key=value overrides"
    )


def _train(options: argparse.Namespace) -> None:
    from rlcap.train import process

    recipe = importlib.import_module(f"rlcap.recipes.{options.recipe}")
    sys.argv = [f"rlcap train {options.recipe}", *options.arguments]
    process.run(recipe.main)
