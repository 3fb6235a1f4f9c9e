"""`rlcap eval`: measures the held-out metrics of a run, or of captions from any captioner."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command, lab_config

if TYPE_CHECKING:
    from rlcap.cli.reward_metrics import RewardMetrics
    from rlcap.config.schema import GRPOConfig
    from rlcap.types import Sample


EPILOG = """\
examples:
  rlcap eval runs/a                                        a run's metrics, again from its captions
  rlcap eval captions.jsonl --config my.yaml               captions of any captioner, one for each image of a split
  rlcap eval results.json --config my.yaml --split all --metrics bleu,rouge,cider,chair --csv each.csv --latex table.tex
  rlcap eval captions.csv --config my.yaml --metrics bert_score mix.bert_score.params.model=roberta-large

--metrics takes rewards by their names in `rlcap rewards`, or `file.py:Class`. A reward that lacks something (a model, references, a judge)
says what, and the others are measured. Do not read a reward that the captioner was trained with as evidence.
"""


def add(commands: Any) -> None:
    """Add the command."""
    evaluate = command(
        commands,
        "eval",
        _eval,
        "measure the held-out metrics of a run, or of captions from any captioner; key=value overrides",
        EPILOG,
    )
    evaluate.add_argument(
        "target",
        type=Path,
        help="run folder; or captions: .jsonl or .csv with sample_id and caption, or COCO's results as .json",
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
    evaluate.add_argument(
        "--metrics", type=_names, default=(), metavar="A,B", help="also measure these rewards; see below"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write means and intervals here")
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write the metrics of each caption here")
    evaluate.add_argument("--latex", type=Path, metavar="FILE", help="write means and intervals here as a LaTeX table")
    evaluate.set_defaults(takes_overrides=True)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of names such as bleu,chair")
    return names


def _eval(options: argparse.Namespace) -> None:
    from rlcap.cli.tables import latex_table, metrics_table, summary_table, to_csv
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.errors import InputError
    from rlcap.io.atomic import write_json, write_text

    if options.target.is_dir():
        from rlcap.eval.summary import summarise

        for name in ("out", "csv", "latex", "metrics"):
            if getattr(options, name):
                raise InputError(
                    f"--{name} is for a captions file; {options.target / 'captions'} has a run's captions with their metrics"
                )
        summary = summarise(options.target)
        if options.json:
            write_json(options.json, summary, "the metrics", indent=1)
        print(summary_table(summary))
    else:
        rewards = [f"mix.{_key(name)}.reward={name}" for name in options.metrics]
        config = load_config(GRPOConfig, options.config or lab_config(), [*rewards, *options.overrides])
        measured = evaluate_captions(options.target, config, options.split, [_key(name) for name in options.metrics])
        if options.out:
            lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in measured.rows)
            write_text(options.out, "".join(lines), "the metrics of each caption")
        if options.json:
            content = {
                "split": options.split,
                "captions": len(measured.rows),
                "metrics": measured.metrics,
                "corpus": measured.corpus,
                "lacking": measured.lacking,
            }
            write_json(options.json, content, "the metrics", indent=1)
        if options.csv:
            write_text(options.csv, to_csv(measured.rows), "the metrics of each caption")
        if options.latex:
            write_text(options.latex, latex_table(measured.metrics), "the table")
        print(f"{options.split}: 95 % intervals {measured.units}\n{metrics_table(measured.metrics)}")
        for name, value in measured.corpus.items():
            print(f"{name}, over all captions: {value:.4g}")
        for name, reason in measured.lacking.items():
            print(f"rlcap: warning: {name} measured nothing: {reason}", file=sys.stderr)


def _key(name: str) -> str:
    """Return the name of a reward's term: `bleu` for `bleu`, `Calm` for `my_rewards.py:Calm`."""
    return name.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class MeasuredCaptions:
    """The held-out metrics of captions."""

    rows: list[dict[str, Any]]
    """Per caption sample_id, image, caption and metrics, null where a metric does not apply."""
    metrics: dict[str, dict[str, Any]]
    """Metric → mean and 95 % interval, for the metrics that apply."""
    units: str
    """What the intervals are over, in words."""
    corpus: dict[str, float]
    """What rewards measure over all captions together."""
    lacking: dict[str, str]
    """Reward → why it measured nothing."""


def evaluate_captions(path: Path, config: GRPOConfig, split: str, rewards: Sequence[str] = ()) -> MeasuredCaptions:
    """Measure the held-out metrics of captions.

    Args:
        path: A jsonl file with one caption per image.
        config: The configuration, whose `data` and `evaluation` are used.
        split: The split to which the captions belong; `all` for every row of the data.
        rewards: Terms of `config.mix` that are measured too.

    Raises:
        CaptionsError: The image of a caption is not in the split, or has two captions.
    """
    import torch

    from rlcap.data.captions import name_as_in, read_captions
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
    rows = name_as_in(rows, [sample.id for sample in splits[split]])
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
    by_rewards = _measure_rewards(config, rewards, ordered, captions, frozenset(metrics))
    metrics |= by_rewards.values
    clusters = evaluator.clusters(split)[: len(captions)]
    intervals = {name: mean_interval(values, clusters)._asdict() for name, values in metrics.items()}
    known = {name: interval for name, interval in intervals.items() if not math.isnan(interval["mean"])}
    units = describe_units(len(captions), len(set(clusters)))
    measured = [
        {"sample_id": s.id, "image": s.image, "caption": captions[s.id], "metrics": metric_values(metrics, row)}
        for row, s in enumerate(ordered[: len(captions)])
    ]
    return MeasuredCaptions(measured, known, units, by_rewards.corpus, by_rewards.lacking)


def _measure_rewards(
    config: GRPOConfig,
    names: Sequence[str],
    samples: Sequence[Sample],
    captions: Mapping[str, str],
    taken: frozenset[str],
) -> RewardMetrics:
    """Measure the captions of the first samples by terms of `config.mix`."""
    from rlcap.cli.reward_metrics import RewardMetrics, reward_metrics
    from rlcap.config.schema import mix_entries
    from rlcap.data.captions import to_batch
    from rlcap.data.source import instruction_for
    from rlcap.reward.context import reward_context

    if not names:
        return RewardMetrics()
    entries = mix_entries(config.mix)
    rows = [{"sample_id": s.id, "caption": captions[s.id]} for s in samples if s.id in captions]
    context = reward_context(
        (sample.image for sample in samples), base=config.model.base, instruction=instruction_for(config.data)
    )
    batch = to_batch(rows, {sample.id: sample for sample in samples})
    return reward_metrics({name: entries[name] for name in names}, batch, context, taken)
