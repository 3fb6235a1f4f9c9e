"""`rlcap init FOLDER`: makes a project folder with recipes, configurations and a reward to edit."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path
from string import Template
from typing import Any

from rlcap.cli.arguments import command

EPILOG = """\
contents of FOLDER:
  recipes/*.py              the recipes, which are short enough to read and to change
  recipes/configs/*.yaml    the configurations of the embedded lab and of published systems
  configs/*.yaml            templates for your own photos: photos_sft.yaml, then photos.yaml
  rewards/brevity.py        a reward to complete, with its test in rewards/test_brevity.py
  README.md                 the commands from photos to a trained captioner
"""

README = Template("""\
# $name

A captioner that is fine-tuned with rlcap. Try the embedded lab first. It needs no data and takes minutes on two CPU cores:

    accelerate launch recipes/grpo.py

## Your own photos

Write one JSON object per line into `captions.jsonl`: `{"id": "1", "image": "photos/1.jpg", "references": ["A red bus waits."]}`.
`configs/photos.yaml` names a small captioner and the models of the rewards; change them as you like. Then run:

    accelerate launch recipes/sft.py --config configs/photos_sft.yaml data.source=captions.jsonl \\
      model.base=HuggingFaceTB/SmolVLM-256M-Instruct --output_dir runs/sft
    rlcap bags mine captions.jsonl --clip ViT-B-32 --pretrained openai --out bags.json
    rlcap nli captions.jsonl --nli cross-encoder/nli-deberta-v3-small --out models/nli
    rlcap grammar captions.jsonl --encoder distilroberta-base --out models/grammar
    rlcap probe configs/photos.yaml
    accelerate launch recipes/grpo.py --config configs/photos.yaml --output_dir runs/grpo
    rlcap caption photos/1.jpg --run runs/grpo --before

## Your own reward

`rewards/brevity.py` is a reward to complete. Add it to the mix of a configuration:

    mix:
      brevity: {reward: "rewards/brevity.py:Brevity", weight: 0.5}

`rlcap config grpo` lists all keys of a configuration, `rlcap rewards` lists all rewards, and `rlcap doctor` checks the
installation.
""")


def add(commands: Any) -> None:
    """Add the command."""
    init = command(
        commands, "init", _init, "make a project folder: recipes, configurations and a reward to edit", EPILOG
    )
    init.add_argument("folder", type=Path, help="folder to make; an existing folder must be empty")


def _init(options: argparse.Namespace) -> None:
    for path in create_project(options.folder):
        print(path)
    print(f"start with {options.folder / 'README.md'}")


def create_project(folder: Path) -> list[Path]:
    """Write a project into an empty or missing folder.

    Args:
        folder: The folder.

    Returns:
        The paths of all files of the project, sorted.

    Raises:
        ConfigError: The folder is not empty, or is a file.
        FileNotFoundError: The recipes are not installed.
    """
    from rlcap.errors import ConfigError
    from rlcap.reward import scaffold

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; name a new or an empty folder")
    spec = importlib.util.find_spec("rlcap.recipes")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the recipes are not installed: pip install rlcap, or pip install -e . in a clone")
    shutil.copytree(
        spec.submodule_search_locations[0], folder / "recipes", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "configs").mkdir()
    for template in sorted((folder / "recipes" / "configs").glob("photos*.yaml")):
        text = template.read_text(encoding="utf-8").replace("recipes/configs/photos", "configs/photos")
        (folder / "configs" / template.name).write_text(text, encoding="utf-8")
        template.unlink()
    scaffold.write(["brevity"], folder / "rewards")
    (folder / "README.md").write_text(README.substitute(name=folder.resolve().name), encoding="utf-8")
    return sorted(path for path in folder.rglob("*") if path.is_file())
