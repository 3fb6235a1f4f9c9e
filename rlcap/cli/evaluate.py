"""`rlcap eval`: measures the held-out metrics of a run, or of captions from any captioner."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
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
    evaluate.add_argument(
        "target",
        type=Path,
        help="run folder, .jsonl file with rows of sample_id and caption, or COCO's results as .json",
    )
    evaluate.add_argument(
        "--config", type=Path, help="YAML with `data:` and `evaluation:`, for a captions file (default: the lab)"
    )
    evaluate.add_argument(
        "--split",
        default="test",
        help="split to which the captions belong; `all` takes every row of the data (default: %(default)s)",
    )
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write each caption with its metrics here (jsonl)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write means and intervals here")
    evaluate.set_defaults(takes_overrides=True)


def _eval(options: argparse.Namespace) -> None:
    from rlcap.cli.tables import metrics_table, summary_table
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.errors import InputError
    from rlcap.io.atomic import write_json, write_text

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        if options.out:
            raise InputError(
                f"--out is for a captions file; {options.target / 'captions'} has the metrics of each caption"
            )
        summary = summarise(options.target)
        if options.json:
            write_json(options.json, summary, "the metrics", indent=1)
        print(summary_table(summary))
    else:
        config = load_config(GRPOConfig, options.config or lab_config(), options.overrides)
        measured = evaluate_captions(options.target, config, options.split)
        if options.out:
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in measured.rows)
            write_text(options.out, "".join(lines), "the metrics of each caption")
        if options.json:
            content = {"split": options.split, "captions": len(measured.rows), "metrics": measured.metrics}
            write_json(options.json, content, "the metrics", indent=1)
        print(f"{options.split}: 95 % intervals {measured.units}\n{metrics_table(measured.metrics)}")


@dataclass(frozen=True, slots=True)
class MeasuredCaptions:
    """The held-out metrics of captions."""

    rows: list[dict[str, Any]]
    """Per caption sample_id, image, caption and metrics, null where a metric does not apply."""
    metrics: dict[str, dict[str, Any]]
    """Metric → mean and 95 % interval, for the metrics that apply."""
    units: str
    """What the intervals are over, in words."""


def evaluate_captions(path: Path, config: GRPOConfig, split: str) -> MeasuredCaptions:
    """Measure the held-out metrics of captions.

    Args:
        path: A jsonl file with one caption per image.
        config: The configuration, whose `data` and `evaluation` are used.
        split: The split to which the captions belong; `all` for every row of the data.

    Raises:
        CaptionsError: The image of a caption is not in the split, or has two captions.
    """
    import torch

    from rlcap.data.captions import read_captions
    from rlcap.data.source import instruction_for, load_all, load_splits
    from rlcap.errors import CaptionsError
    from rlcap.eval.captions_file import metric_values
    from rlcap.eval.statistics import describe_units, mean_interval
    from rlcap.train.evaluation import build_evaluator
    from rlcap.train.run_folder import RunFolder
    from rlcap.types import NO_CONTROL, Control

    rows = [row for row in read_captions(path) if row.get("split", split) == split]
    splits = {"all": load_all(config.data)} if split == "all" else load_splits(config.data)[0]
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
    asked = {str(row["sample_id"]): Control.parse(row.get("control")) for row in rows}
    ordered = [
        replace(sample, control=asked.get(sample.id, NO_CONTROL).over(sample.control))
        for sample in sorted(splits[split], key=lambda sample: sample.id not in captions)
    ]
    evaluator = build_evaluator(
        config,
        {"train": splits.get("train") or ordered, split: ordered},  # CIDEr counts words in the references of `train`
        instruction_for(config.data),
        RunFolder(path.parent),
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    metrics = evaluator.score(split, [captions[sample.id] for sample in ordered[: len(captions)]])
    clusters = evaluator.clusters(split)[: len(captions)]
    intervals = {name: mean_interval(values, clusters)._asdict() for name, values in metrics.items()}
    known = {name: interval for name, interval in intervals.items() if not math.isnan(interval["mean"])}
    units = describe_units(len(captions), len(set(clusters)))
    measured = [
        {"sample_id": s.id, "image": s.image, "caption": captions[s.id], "metrics": metric_values(metrics, row)}
        for row, s in enumerate(ordered[: len(captions)])
    ]
    return MeasuredCaptions(measured, known, units)
