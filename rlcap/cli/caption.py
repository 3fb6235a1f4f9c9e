"""`rlcap caption`: captions images with the captioner of a run or of a configuration."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, lab_config, positive
from rlcap.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def add(commands: Any) -> None:
    """Add the command."""
    caption = command(commands, "caption", _caption, "caption images with the captioner of a run; key=value overrides")
    caption.add_argument("images", nargs="+", type=Path, help="image files, or folders with image files")
    caption.add_argument("--run", type=Path, help="run folder with a trained captioner", dest="folder")
    caption.add_argument(
        "--config", type=Path, help="YAML of a GRPO recipe, instead of a run (default: the captioner of the lab)"
    )
    caption.add_argument("--before", action="store_true", help="also caption with the model as it was before training")
    caption.add_argument("--batch-size", type=positive, default=16, help="images per batch (default: %(default)s)")
    caption.add_argument("--out", type=Path, help="jsonl file for rows of sample_id, image and caption")
    caption.set_defaults(takes_overrides=True)


def _caption(options: argparse.Namespace) -> None:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig, ModelConfig
    from rlcap.data.source import instruction_for
    from rlcap.eval.pretrained import PretrainedCaptioner, read_run_config
    from rlcap.io.atomic import write_text
    from rlcap.io.images import check_image
    from rlcap.policy.loading import load_policy

    if (options.folder and options.config) or (options.before and not options.folder):
        raise InputError("--run and --config exclude each other, and --before needs --run")
    # argparse takes an override that stands among the images for an image.
    images = [path for path in options.images if "=" not in path.name or path.exists()]
    overrides = options.overrides + [str(path) for path in options.images if path not in images]
    if options.folder:
        config = load_config(GRPOConfig, None, [*_of_run(options.folder), *overrides])
    else:
        config = load_config(GRPOConfig, options.config or lab_config(), overrides)
    paths = [file for path in images for file in _files(path)]
    if not paths:
        raise InputError("there is no image to caption: name image files, or folders with image files")
    for path in paths:
        check_image(path)  # a broken image ends the command before any other image is captioned

    models = {"caption": config.model}
    if options.before:
        models = {"before": ModelConfig.parse(read_run_config(options.folder)["model"], "model")} | models
    instruction, said = instruction_for(config.data), {}
    for name, model in models.items():
        captioner = PretrainedCaptioner(load_policy(model), instruction, config.generation.max_new_tokens)
        said[name] = captioner.caption(paths, batch_size=options.batch_size, progress=len(paths) > options.batch_size)
    rows = [
        {"sample_id": path.stem, "image": str(path)} | {n: said[n][i] for n in said} for i, path in enumerate(paths)
    ]
    if options.out:
        write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "the captions")
        print(f"{options.out}: {len(rows)} images")
        return
    for row in rows:
        print(f"{row['image']}\n" + "\n".join(f"  {name + ': ' if options.before else ''}{row[name]}" for name in said))


def _of_run(folder: Path) -> list[str]:
    """Return the model, data and generation settings of a run as overrides, with the trained weights as the model."""
    from rlcap.eval.pretrained import read_run

    return [f"{section}={json.dumps(values)}" for section, values in read_run(folder).items()]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
