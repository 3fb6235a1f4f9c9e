"""`rlcap eval`: held-out metrics of a run's captions, or of captions from anywhere."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, lab_config

if TYPE_CHECKING:
    from rlcap.config.schema import GRPOConfig


def add(commands: Any) -> None:
    """Add the command."""
    evaluate = command(
        commands,
        "eval",
        _eval,
        "held-out metrics of a run's captions, or of captions from anywhere; key=value overrides",
    )
    evaluate.add_argument("target", type=Path, help="a run folder, or jsonl rows of sample_id and caption")
    evaluate.add_argument(
        "--config", type=Path, help="YAML with `data:` and `evaluation:` for a captions file (default: the lab)"
    )
    evaluate.add_argument("--split", default="test", help="split that the captions belong to (default: %(default)s)")
    evaluate.set_defaults(takes_overrides=True)


def _eval(options: argparse.Namespace) -> None:
    from rlcap.cli.tables import summary_table
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        print(summary_table(summarise(options.target)))
    else:
        config = load_config(GRPOConfig, options.config or lab_config(), options.overrides)
        print(evaluate_captions(options.target, config, options.split))


def evaluate_captions(path: Path, config: GRPOConfig, split: str) -> str:
    """Return a table of held-out metrics (mean and 95 % interval) of captions of a split, one for each image.

    Raises:
        CaptionsError: where a caption's image is not in the split, or has two captions.
    """
    import torch

    from rlcap.cli.tables import metrics_table
    from rlcap.data.captions import read_captions
    from rlcap.data.source import instruction_for, load_splits
    from rlcap.errors import CaptionsError
    from rlcap.eval.statistics import bootstrap_mean
    from rlcap.train.evaluation import build_evaluator
    from rlcap.train.run_folder import RunFolder

    rows = [row for row in read_captions(path) if row.get("split", split) == split]
    splits, _ = load_splits(config.data)
    if split not in splits:
        raise CaptionsError(f"--split {split}: the configured data has {', '.join(splits)}")
    captions = {str(row["sample_id"]): row["caption"] for row in rows}
    if len(captions) < len(rows) or not rows:
        raise CaptionsError(f"{path}: {len(rows)} captions of {len(captions)} images of {split}; give one an image")
    if strangers := sorted(set(captions) - {sample.id for sample in splits[split]}):
        raise CaptionsError(
            f"{path}: {split} has no image {strangers[0]!r} ({len(strangers)} such); see --split, --config"
        )
    ordered = sorted(splits[split], key=lambda sample: sample.id not in captions)
    evaluator = build_evaluator(
        config,
        {"train": splits.get("train", []), split: ordered},
        instruction_for(config.data),
        RunFolder(path.parent),
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    metrics = evaluator.score(split, [captions[sample.id] for sample in ordered[: len(captions)]])
    intervals = {name: bootstrap_mean(values)._asdict() for name, values in metrics.items()}
    told = {name: interval for name, interval in intervals.items() if not math.isnan(interval["mean"])}
    return f"{len(captions)} captions of {split}\n{metrics_table(told)}"
