"""`rlcap caption`: captions images with the captioner of a run or of a configuration."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, lab_config, positive
from rlcap.errors import InputError
from rlcap.types import Control

MAX_LISTED = 20
"""Largest number of skipped files that are listed."""
_OVERRIDE = re.compile(r"[a-z_][\w.]*=")


def add(commands: Any) -> None:
    """Add the command."""
    caption = command(commands, "caption", _caption, "caption images with the captioner of a run; key=value overrides")
    caption.add_argument("images", nargs="+", help="image files, or folders with image files")
    caption.add_argument("--recursive", action="store_true", help="also caption the images in subfolders")
    caption.add_argument("--run", type=Path, help="run folder with a trained captioner", dest="folder")
    caption.add_argument(
        "--config", type=Path, help="YAML of a GRPO recipe, instead of a run (default: the captioner of the lab)"
    )
    caption.add_argument("--before", action="store_true", help="also caption with the model as it was before training")
    caption.add_argument("--batch-size", type=positive, default=16, help="images per batch (default: %(default)s)")
    caption.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="ask something of the captions: length=40, level=8, 'question=What is left of the dog?', …; may be given several times",
    )
    caption.add_argument("--out", type=Path, help="jsonl file for rows of sample_id, image and caption")
    caption.set_defaults(takes_overrides=True)


def _caption(options: argparse.Namespace) -> None:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig, ModelConfig
    from rlcap.data.source import load_instruction
    from rlcap.eval.pretrained import PretrainedCaptioner, read_run_config
    from rlcap.io.atomic import write_text
    from rlcap.policy.loading import load_policy
    from rlcap.policy.unusable_images import find_unusable

    if (options.folder and options.config) or (options.before and not options.folder):
        raise InputError("--run and --config exclude each other, and --before needs --run")
    # argparse takes an override that stands among the images for an image. Its value may be a path or an address.
    is_override = [bool(_OVERRIDE.match(word)) and not Path(word).exists() for word in options.images]
    images = [Path(word) for word, is_one in zip(options.images, is_override, strict=True) if not is_one]
    overrides = options.overrides + [word for word, is_one in zip(options.images, is_override, strict=True) if is_one]
    if options.folder:
        config = load_config(GRPOConfig, None, [*_of_run(options.folder), *overrides])
    else:
        config = load_config(GRPOConfig, options.config or lab_config(), overrides)
    paths, skipped = _collect(images, options.recursive)
    if not paths:
        raise _nothing(skipped)

    models = {"caption": config.model}
    if options.before:
        models = {"before": ModelConfig.parse(read_run_config(options.folder)["model"], "model")} | models
    instruction = load_instruction(config.data)
    control = _read_control(options.control).over(Control.parse(config.data.control))
    said: dict[str, list[str]] = {}
    for name, model in models.items():
        captioner = PretrainedCaptioner(
            load_policy(model), instruction, config.generation.max_new_tokens, control=control
        )
        if not said:  # both models have the same processor
            unusable = find_unusable(captioner.policy.captioner, map(str, paths))
            skipped += [f"{path}: {reason}" for path, reason in unusable.items()]
            paths = [path for path in paths if str(path) not in unusable]
        if not paths:
            raise _nothing(skipped)
        said[name] = captioner.caption(paths, batch_size=options.batch_size, progress=len(paths) > options.batch_size)
    stems = Counter(path.stem for path in paths)  # the name without its suffix is the id, unless two images share it
    rows = [
        {"sample_id": path.stem if stems[path.stem] == 1 else str(path), "image": str(path)}
        | {name: captions[i] for name, captions in said.items()}
        | ({"control": control.to_dict()} if control else {})
        for i, path in enumerate(paths)
    ]
    _report_skipped(skipped)
    if options.out:
        write_text(options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "the captions")
        print(f"{options.out}: {len(rows)} images")
        return
    for row in rows:
        print(f"{row['image']}\n" + "\n".join(f"  {name + ': ' if options.before else ''}{row[name]}" for name in said))


def _read_control(words: list[str]) -> Control:
    """Return the control that the options --control ask for.

    Raises:
        InputError: A word is not KEY=VALUE, or no control has such a value.
    """
    if wrong := [word for word in words if "=" not in word]:
        raise InputError(f"--control {wrong[0]}: write KEY=VALUE, for instance --control length=40")
    try:
        return Control.parse(dict(word.split("=", 1) for word in words))
    except ValueError as error:
        raise InputError(f"--control: {error}") from error


def _of_run(folder: Path) -> list[str]:
    """Return the model, data and generation settings of a run as overrides, with the trained weights as the model."""
    import yaml

    from rlcap.eval.pretrained import read_run

    # YAML in one line, because the keys of JSON are texts, and those of a control's words and weights may be numbers or null.
    return [
        f"{section}={yaml.safe_dump(values, default_flow_style=True, width=math.inf)}"
        for section, values in read_run(folder).items()
    ]


def _collect(named: list[Path], recursive: bool) -> tuple[list[Path], list[str]]:
    """Return the images that can be captioned, and one line for each file that is left out.

    In a folder, a file counts as an image if its name ends as one does, or if it has no suffix and begins as one does.

    Raises:
        ImageError: A file that was named itself does not exist.
    """
    from rlcap.data.decoding import find_undecodable
    from rlcap.data.formats.images import find_images
    from rlcap.errors import ImageError
    from rlcap.io.images import check_image

    candidates: list[Path] = []
    skipped: list[str] = []
    for path in named:
        if not path.is_dir():
            if not path.exists():
                check_image(path)  # raises
            candidates.append(path)
            continue
        images = find_images(path, recursive)
        files = path.rglob("*") if recursive else path.iterdir()
        others = [
            file for file in sorted(files) if file.is_file() and file not in images and not _is_hidden(file, path)
        ]
        candidates += sorted([*images, *(file for file in others if not file.suffix)])
        skipped += [f"{file}: the name does not end as an image's does" for file in others if file.suffix]
        folders = [] if recursive else [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
        skipped += [
            f"{folder}: a folder; --recursive captions its images" for folder in folders if find_images(folder, True)
        ]
    complete: list[Path] = []
    for file in dict.fromkeys(candidates):
        try:
            check_image(file)
        except ImageError as error:
            skipped.append(str(error))
        else:
            complete.append(file)
    broken = find_undecodable([str(file) for file in complete])
    return [file for file in complete if str(file) not in broken], skipped + [str(error) for error in broken.values()]


def _nothing(skipped: list[str]) -> InputError:
    """Return the error for a command that has no image to caption."""
    reasons = "; ".join(skipped[:MAX_LISTED]) or "name image files, or folders with image files"
    return InputError(f"there is no image to caption: {reasons}")


def _report_skipped(skipped: list[str]) -> None:
    """Print how many files were left out, and the first of them with the reason, to the standard error."""
    if skipped:
        lines = [
            f"rlcap: skipped {len(skipped)} file{'s' if len(skipped) > 1 else ''}:",
            *(f"  {line}" for line in skipped[:MAX_LISTED]),
        ]
        if len(skipped) > MAX_LISTED:
            lines.append(f"  and {len(skipped) - MAX_LISTED} more")
        print("\n".join(lines), file=sys.stderr)


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
