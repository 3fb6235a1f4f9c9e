"""From `data:` of a config to splits of samples with distractors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlcap.config.schema import DataConfig
from rlcap.data.bags import BagFile, attach_distractors
from rlcap.data.formats import SampleSet, load_samples, split_samples
from rlcap.data.prompts import INSTRUCTION
from rlcap.errors import ConfigError
from rlcap.io.images import limit_pixels
from rlcap.lab.world import language as lab_language
from rlcap.types import Sample


def instruction_for(config: DataConfig) -> str:
    """What the captioner is asked: the configured instruction, else the source's default."""
    if config.instruction:
        return config.instruction
    return lab_language.INSTRUCTION if config.source == "lab" else INSTRUCTION


def load_rows(config: DataConfig, check_images: bool = True) -> SampleSet:
    """Every usable row of a source that is not the lab. `data.max_pixels` holds in this process from here on. check_images:
    as in `load_samples`.

    Raises DataError on a bad row (unless `data.on_bad` is skip) or a source that can't be read.
    """
    limit_pixels(config.max_pixels)
    return load_samples(
        config.source,
        image_root=config.image_root,
        on_bad=config.on_bad,
        columns=config.columns,
        split=config.split,
        check_images=check_images,
    )


def load_splits(config: DataConfig) -> tuple[dict[str, list[Sample]], list[str]]:
    """({train, validation, test, prior_breaking: samples}, lines that say what was loaded). Empty splits are left out.

    Raises ConfigError when there are too few images, and whatever the source raises on bad rows.
    """
    if config.source == "lab":
        from rlcap.lab.source import load_split

        counts = {name: getattr(config, name) for name in ("train", "validation", "test", "prior_breaking")}
        splits = {name: load_split(name, count, config.seed) for name, count in counts.items() if count}
        return splits, [f"lab: {', '.join(f'{len(rows)} {name}' for name, rows in splits.items())}"]
    loaded = load_rows(config)
    lines, held = [loaded.describe()], config.validation + config.test
    if held >= len(loaded):
        raise ConfigError(
            f"data.validation + data.test hold out {held} of {len(loaded)} images of {config.source}; hold out fewer"
        )
    # Each split is drawn by hashed ids, never taken from an end: a source is often sorted by what it shows.
    held_out, rest = _draw(loaded, held, config.seed)
    validation, test = _draw(held_out, config.validation, config.seed + 1)
    train = rest if config.train is None else _draw(rest, config.train, config.seed + 2)[0]
    splits = {"train": list(train), "validation": list(validation), "test": list(test)}
    if config.bags:
        bags = BagFile.read(Path(config.bags))
        splits = {
            name: list(attach_distractors(rows, bags, on_unknown="drop")) for name, rows in splits.items() if rows
        }
        lines.append(f"bags of {config.bags} attached; {_describe_bags(splits)}")
    lines.append(", ".join(f"{len(rows)} {name}" for name, rows in splits.items()))
    return {name: rows for name, rows in splits.items() if rows}, lines


def _draw(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """(`count` of the samples, the others), also where that is none or all of them."""
    if count <= 0:
        return (), samples
    if count >= len(samples):
        return samples, ()
    return split_samples(samples, holdout=count, seed=seed)


def _describe_bags(splits: Mapping[str, Sequence[Sample]], wanted: int = 4) -> str:
    """How many look-alikes remain to an image once those of the other splits are dropped, for the start of a run."""
    counts = {name: [len(s.distractors.get("hard", ())) for s in rows] for name, rows in splits.items() if rows}
    line = "hard look-alikes within the split, fewest: " + ", ".join(f"{n} {min(c)}" for n, c in counts.items())
    if short := {name: sum(n < wanted for n in found) for name, found in counts.items() if min(found) < wanted}:
        line += (
            f" ({', '.join(f'{n} images of {name}' for name, n in short.items())} have no bag of {wanted + 1}: "
            "mine with more --neighbours)"
        )
    return line
