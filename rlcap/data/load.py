"""From `data:` of a config to splits of samples with distractors."""

from __future__ import annotations

from pathlib import Path

from rlcap.config import ConfigError, DataConfig
from rlcap.data.bags import BagFile, attach
from rlcap.data.prompts import INSTRUCTION
from rlcap.data.sources import load_samples, split
from rlcap.lab import language as lab_language
from rlcap.types import Sample


def instruction_for(config: DataConfig) -> str:
    """What the captioner is asked: the configured instruction, else the source's default."""
    if config.instruction:
        return config.instruction
    return lab_language.INSTRUCTION if config.source == "lab" else INSTRUCTION


def load_splits(config: DataConfig) -> tuple[dict[str, list[Sample]], list[str]]:
    """({train, validation, test, prior_breaking: samples}, lines that say what was loaded). Empty splits are left out.

    Raises ConfigError when there are too few images, and whatever the source raises on bad rows.
    """
    if config.source == "lab":
        from rlcap.lab.splits import load_split

        counts = {name: getattr(config, name) for name in ("train", "validation", "test", "prior_breaking")}
        splits = {name: load_split(name, count, config.seed) for name, count in counts.items() if count}
        return splits, [f"lab: {', '.join(f'{len(rows)} {name}' for name, rows in splits.items())}"]
    loaded = load_samples(
        config.source, image_root=config.image_root, on_bad=config.on_bad, max_pixels=config.max_pixels
    )
    samples, lines = list(loaded.samples), [loaded.describe()]
    held = config.validation + config.test
    if held >= len(samples):
        raise ConfigError(
            f"data.validation + data.test hold out {held} of {len(samples)} images of {config.source}; hold out fewer"
        )
    held_out, rest = split(samples, holdout=held, seed=config.seed) if held else ([], samples)
    if config.train is not None:
        rest = rest[: config.train]
    splits = {"train": list(rest), "validation": held_out[: config.validation], "test": held_out[config.validation :]}
    if config.bags:
        bags = BagFile.read(Path(config.bags))
        splits = {name: list(attach(rows, bags, on_unknown="drop")) for name, rows in splits.items()}
        lines.append(f"bags of {config.bags} attached")
    lines.append(", ".join(f"{len(rows)} {name}" for name, rows in splits.items()))
    return {name: rows for name, rows in splits.items() if rows}, lines
