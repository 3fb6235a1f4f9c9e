"""Captions that exist already, read and told about: what a mix says of them, and what the held-out rulers say.

A captions file holds a JSON object a line: `sample_id` and `caption`, and, unless the configured data knows the image,
`image`, `references`, `paragraph`, `meta` and `distractor_images` (paths of similar images) as far as the rewards need
them. A run's captions/<step>.jsonl and rollouts.jsonl are such files.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.config.schema import GRPOConfig
from rlcap.errors import CaptionsError
from rlcap.io.text import read_rows
from rlcap.types import RewardBatch, Sample

if TYPE_CHECKING:
    from rlcap.reward.mix import MixScores

BAG = 5
"""Images of the bag that a caption is scored in where its row names none."""


def read_captions(path: Path) -> list[dict[str, Any]]:
    """The rows of a captions file. CaptionsError: not there, empty, or a line that is no row."""

    return read_rows(
        path, "captions", "it holds a JSON object a line, with sample_id and caption", _flaw, CaptionsError
    )


def _flaw(row: Any) -> str | None:
    """What is amiss with a row. It may have other keys, as a run's own files do, but none that looks like a slip of ours."""
    if not isinstance(row, dict) or not isinstance(row.get("caption"), str) or "sample_id" not in row:
        return f"a row needs sample_id and caption, got {json.dumps(row)[:80]!r}"
    for key, (kind, fits) in KEYS.items():
        if row.get(key) is not None and not fits(row[key]):
            return f"{key} must be {kind}, got {json.dumps(row[key])[:80]}"
    for key in row.keys() - KEYS.keys():
        near = difflib.get_close_matches(key, KEYS.keys() - row.keys(), 1, cutoff=0.85)
        if near:
            return f"a row has no key {key!r}; did you mean {near[0]!r}?"
    return None


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "image": ("a path", lambda value: isinstance(value, str)),
    "references": ("a text or a list of texts", lambda value: isinstance(value, str) or _is_list_of_texts(value)),
    "paragraph": ("a text", lambda value: isinstance(value, str)),
    "meta": ("a mapping", lambda value: isinstance(value, dict)),
    "distractor_images": ("a list of paths", _is_list_of_texts),
}
"""What a row may say of its image: key → what it must be."""


def references_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's own references; one text is one reference."""
    found = row.get("references") or ()
    return (found,) if isinstance(found, str) else tuple(found)


def to_batch(rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sample]) -> RewardBatch:
    """Rows beside their samples; what a row says itself wins over what `known` (by id) says of it."""
    samples, bags = [], []
    for row in rows:
        id = str(row["sample_id"])
        base = known.get(id, Sample(id, ""))
        samples.append(
            Sample(
                id,
                row.get("image") or base.image,
                references_of(row) or base.references,
                row.get("paragraph") or base.paragraph,
                base.distractors,
                row.get("meta") or base.meta,
            )
        )
        near = [known[other].image for other in base.distractors.get("hard", ()) if other in known][: BAG - 1]
        bags.append(tuple(row.get("distractor_images") or near))
    return RewardBatch([row["caption"] for row in rows], samples, bags)


def score_captions(path: Path, config: GRPOConfig) -> str:
    """A table of what each component of `config.mix` says of the captions: mean, spread, abstentions with reasons.

    `config.data` is loaded where a row lacks its image or references. ConfigError and CaptionsError as they apply.
    """
    import torch

    from rlcap.data.source import load_splits
    from rlcap.lab.assets import resolve_all
    from rlcap.reward.mix import RewardMix

    rows = read_captions(path)
    known: dict[str, Sample] = {}
    if not all(row.get("image") and row.get("references") for row in rows):
        known = {sample.id: sample for samples in load_splits(config.data)[0].values() for sample in samples}
        if strangers := [
            row["sample_id"] for row in rows if str(row["sample_id"]) not in known and not row.get("image")
        ]:
            raise CaptionsError(
                f"{path}: {len(strangers)} captions of images that the configured data does not have, such as "
                f"{strangers[0]!r}; give their rows image and references, or the right --config"
            )
    batch = to_batch(rows, known)
    gallery = {sample.image for sample in (*known.values(), *batch.samples) if sample.image}
    mix = RewardMix.from_config(
        resolve_all({name: entry for name, entry in config.mix.items() if entry is not None}),
        context={"device": "cuda" if torch.cuda.is_available() else "cpu", "gallery": sorted(gallery)},
        max_abstain=1.0,  # here abstentions are told, not a reason to stop
    )
    return score_table(mix.score(batch))


def score_table(found: MixScores) -> str:
    """Component, weight, mean, std, least, most and abstentions, a line each."""
    lines = [("component", "weight", "mean", "std", "least", "most", "abstained")]
    for name, weight in zip(found.names, found.weights, strict=True):
        scores = found.scores[name]
        values = [score.value for score in scores if score.value is not None]
        numbers = ["–"] * 4
        if values:
            mean = sum(values) / len(values)
            std = math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))
            numbers = [f"{number:.3f}" for number in (mean, std, min(values), max(values))]
        reasons = Counter(score.reason for score in scores if score.value is None).most_common(1)
        why = f" ({reasons[0][0]})" if reasons else ""
        lines.append((name, f"{weight:g}", *numbers, f"{len(scores) - len(values)} of {len(scores)}{why}"))
    return _aligned(lines)


def evaluate_captions(path: Path, config: GRPOConfig, split: str) -> str:
    """A table of held-out metrics (mean and 95 % interval) of captions of `split`, one a image.

    CaptionsError where a caption's image is not in the split, or has two captions.
    """
    import torch

    from rlcap.data.source import instruction_for, load_splits
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


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Metric, mean and interval, a line each, in reading order."""
    from rlcap.eval.metric_catalog import metric_info, reading_order

    lines = [("metric", "mean", "95 % interval", "meaning")]
    for name in reading_order(set(metrics)):
        say, m = metric_info(name).format, metrics[name]
        lines.append((name, say(m["mean"]), f"{say(m['low'])} to {say(m['high'])}", metric_info(name).label))
    return _aligned(lines)


def summary_table(summary: Mapping[str, Any]) -> str:
    """What changed in a run, by split; the metrics themselves where there is only one evaluation."""
    from rlcap.eval.metric_catalog import metric_info, reading_order

    parts = []
    for change in summary["changes"]:
        lines = [("metric", f"step {change['from']}", f"step {change['to']}", "change", "95 % interval")]
        for name in reading_order(set(change["metrics"])):
            ruler, found = metric_info(name), change["metrics"][name]
            moved = found["difference"]
            span = f"{ruler.format_change(moved['low'])} to {ruler.format_change(moved['high'])}"
            values = (ruler.format(found["before"]), ruler.format(found["after"]), ruler.format_change(moved["mean"]))
            lines.append((name, *values, span))
        parts.append(f"{change['split']}, {change['n']} images\n{_aligned(lines)}")
    if not parts:
        parts = [f"{e['split']}, {e['n']} images\n{metrics_table(e['metrics'])}" for e in summary["evaluations"]]
    return "\n\n".join(parts)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
