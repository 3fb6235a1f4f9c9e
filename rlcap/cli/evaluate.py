"""`rlcap eval`: measures the held-out metrics of a run, or of captions from any captioner."""

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
        "measure the held-out metrics of a run, or of captions from any captioner; key=value overrides",
    )
    evaluate.add_argument("target", type=Path, help="run folder, or jsonl file with rows of sample_id and caption")
    evaluate.add_argument(
        "--config", type=Path, help="YAML with `data:` and `evaluation:`, for a captions file (default: the lab)"
    )
    evaluate.add_argument("--split", default="test", help="split to which the captions belong (default: %(default)s)")
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
    """Return a table of the held-out metrics of captions, with means and 95 % intervals.

    Args:
        path: A jsonl file with one caption per image.
        config: The configuration, whose `data` and `evaluation` are used.
        split: The split to which the captions belong.

    Raises:
        CaptionsError: The image of a caption is not in the split, or has two captions.
    """
    import torch

    from rlcap.cli.tables import metrics_table
    from rlcap.data.captions import read_captions
    from rlcap.data.source import instruction_for, load_splits
    from rlcap.errors import CaptionsError
    from rlcap.eval.statistics import describe_units, mean_interval
    from rlcap.train.evaluation import build_evaluator
    from rlcap.train.run_folder import RunFolder

    rows = [row for row in read_captions(path) if row.get("split", split) == split]
    splits, _ = load_splits(config.data)
    if split not in splits:
        raise CaptionsError(f"--split {split}: the configured data has {', '.join(splits)}")
    captions = {str(row["sample_id"]): row["caption"] for row in rows}
    if len(captions) < len(rows) or not rows:
        raise CaptionsError(
            f"{path} has {len(rows)} captions of {len(captions)} images of {split}; give one caption per image"
        )
    if unknown := sorted(set(captions) - {sample.id for sample in splits[split]}):
        raise CaptionsError(
            f"{path}: {split} has no image {unknown[0]!r}, and {len(unknown)} captions have no image there; check --split "
            "and --config"
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
    clusters = evaluator.clusters(split)[: len(captions)]
    intervals = {name: mean_interval(values, clusters)._asdict() for name, values in metrics.items()}
    known = {name: interval for name, interval in intervals.items() if not math.isnan(interval["mean"])}
    units = describe_units(len(captions), len(set(clusters)))
    return f"{split}: 95 % intervals {units}\n{metrics_table(known)}"
