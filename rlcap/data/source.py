"""Where images and texts come from: the protocol of data sources, and the source that reads files.

A configuration names a file or a folder (`data.source: photos/captions.json`), or a data source of its own by its dotted path, whose
constructor gets `data.options`:

    data:
      source: rlcap.lab.source:LabSource
      options: {prior_breaking: 35}
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rlcap.config.imports import build, resolve
from rlcap.config.schema import DataConfig
from rlcap.data.bags import BagFile, attach_distractors
from rlcap.data.control import Instruction, fill_controls
from rlcap.data.loading import load_samples, stream_samples
from rlcap.data.prompts import INSTRUCTION
from rlcap.data.samples import SampleSet, Skip, check_distinct_images, split_samples
from rlcap.errors import ConfigError
from rlcap.io.images import limit_pixels
from rlcap.types import Control, Sample

Splits = dict[str, list[Sample]]
"""Name of a split → its samples. `train` is learned from; all others are held out."""
NO_SOURCE = "data.source is empty: name a .jsonl, .json, .csv, .tsv or .parquet file, a folder or module:Class"
"""The message for a configuration without a data source."""
_DOTTED_PATH = re.compile(r"[A-Za-z_][\w./-]*:[A-Za-z_]\w*")


class Truth(Protocol):
    """The exact truth about the images of a source. A simulated world knows it; for photos it is unknown."""

    def metrics(self, captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Return metrics of N captions of the first N samples: name → (N,), NaN where a metric does not apply."""
        ...

    def false_sentences(self, caption: str, sample: Sample) -> list[tuple[int, int, str]]:
        """Return (start, end, what is false) of each false sentence of a caption, in characters."""
        ...

    def score(self, caption: str, sample: Sample) -> float:
        """Return how true and complete a caption is, in [0, 1]."""
        ...

    def good_caption(self, sample: Sample) -> str:
        """Return a caption that is true and as detailed as one may wish."""
        ...

    def false_sentence(self, caption: str, sample: Sample, rng: random.Random) -> str:
        """Return a sentence that is false when it follows the caption."""
        ...


@runtime_checkable
class DataSource(Protocol):
    """A data set with its splits. A user's own source is a class with these members; see `rlcap.lab.source` for an example.

    A source may also have `control_phrases`, the words of controls (`rlcap.data.control`) that its captioner understands.
    """

    instruction: str
    """The instruction to the captioner, unless `data.instruction` sets another one."""
    truth: Truth | None
    """The truth about the images; None if it is unknown."""

    def load_splits(self, config: DataConfig) -> tuple[Splits, list[str]]:
        """Return all splits that have samples, and lines that describe what was loaded."""
        ...

    def load_split(self, config: DataConfig, split: str, count: int) -> Splits:
        """Return at least the split of this name, with `count` samples or more if the source has as many.

        Raises:
            ConfigError: The source has no split of this name. The message lists its splits.
        """
        ...

    def load_rows(self, config: DataConfig, check_images: bool = True) -> Sequence[Sample]:
        """Return every usable row, for tools that need no splits. If `check_images` is false, image files are not opened."""
        ...


def open_source(config: DataConfig) -> DataSource:
    """Return the data source that a configuration names.

    Raises:
        ConfigError: The configuration names no source, or the named object is not a data source.
    """
    if not config.source:
        raise ConfigError(NO_SOURCE)
    if not _DOTTED_PATH.fullmatch(config.source) or Path(config.source).expanduser().exists():
        if config.options:
            raise ConfigError(f"data.options {config.options} are for a source module:Class; {config.source} is a file")
        return FileSource()
    kind = resolve(config.source)
    if not (isinstance(kind, type) and all(hasattr(kind, name) for name in ("load_splits", "load_split", "load_rows"))):
        raise ConfigError(
            f"data.source {config.source} is no data source, and was not called: it must be a class with instruction, truth, "
            "load_splits, load_split and load_rows"
        )
    source = build(kind, config.options, what=f"data.source {config.source}")
    if not isinstance(source, DataSource):
        raise ConfigError(f"data.source {config.source} is no data source: it needs instruction, truth and load_splits")
    return source


def instruction_for(config: DataConfig) -> str:
    """Return what the captioner is asked: the configured instruction, else the source's own."""
    return config.instruction or open_source(config).instruction


def load_instruction(config: DataConfig) -> Instruction:
    """Return what the captioner is asked, with the words of controls: the configured ones, else the source's, else the default ones."""
    source = open_source(config) if config.source or not config.instruction else None
    phrases = getattr(source, "control_phrases", {})
    text = config.instruction or (source.instruction if source is not None else "")
    return Instruction(text, {**phrases, **config.control_phrases})


def load_rows(config: DataConfig, check_images: bool = True) -> Sequence[Sample]:
    """Return every usable row of the configured source."""
    return open_source(config).load_rows(config, check_images)


def stream_rows(config: DataConfig, check_images: bool = True, skips: list[Skip] | None = None) -> Iterator[Sample]:
    """Yield every usable row of the configured source, with its control; rows of a file are read one by one and not joined.

    Args:
        config: The section `data` of a configuration.
        check_images: Whether to open the image files.
        skips: A list that gets the rows that were skipped.

    Raises:
        ConfigError: No source is named, or it is no data source.
        DataError: A row is bad, unless `data.on_bad` is skip.
    """
    source = open_source(config)
    if isinstance(source, FileSource):
        rows: Iterable[Sample] = stream_samples(
            config.source, **source.options(config), check_images=check_images, skips=skips
        )
    else:
        rows = source.load_rows(config, check_images)
    for sample in rows:
        yield from _with_controls([sample], config)


def load_splits(config: DataConfig) -> tuple[Splits, list[str]]:
    """Return the splits of the configured source, and lines that say what was loaded.

    Raises:
        DataError: An image stands in two splits, or twice in one.
    """
    splits, lines = open_source(config).load_splits(config)
    check_distinct_images(splits)
    return {name: _with_controls(rows, config) for name, rows in splits.items()}, lines


def load_all(config: DataConfig) -> list[Sample]:
    """Return every sample of the configured source, for commands that score captions and hold nothing out.

    Of a file or folder these are all usable rows, with their bags where `data.bags` names them. Of another source they are the samples of
    all splits.

    Raises:
        ConfigError: where no source is named, or it is no data source.
        DataError: on a bad row, unless `data.on_bad` is skip.
    """
    source = open_source(config)
    if not isinstance(source, FileSource):
        return [sample for rows in load_splits(config)[0].values() for sample in rows]
    samples: Sequence[Sample] = source.load_rows(config)
    if config.bags:
        samples = attach_distractors(samples, BagFile.read(Path(config.bags)), on_unknown="drop")
    return _with_controls(samples, config)


def _with_controls(samples: Sequence[Sample], config: DataConfig) -> list[Sample]:
    return list(fill_controls(samples, Control.parse(config.control), config.control_from_paragraph))


class FileSource:
    """Rows from a file or folder of any format that `rlcap.data.formats` lists."""

    instruction = INSTRUCTION
    truth: Truth | None = None

    def load_rows(self, config: DataConfig, check_images: bool = True) -> SampleSet:
        """Return every usable row. `data.max_pixels` holds in this process from here on.

        Raises:
            DataError: on a bad row (unless `data.on_bad` is skip), or a source that can't be read.
        """
        return load_samples(config.source, **self.options(config), check_images=check_images)

    def options(self, config: DataConfig) -> dict[str, Any]:
        """Return how a file is read, for `load_samples` and `stream_samples`, and set the limit of pixels of this process."""
        limit_pixels(config.max_pixels)
        columns = dict(config.columns.items())
        return {"image_root": config.image_root, "on_bad": config.on_bad, "columns": columns, "split": config.split}

    def load_split(self, config: DataConfig, split: str, count: int) -> Splits:
        """Return all splits, among them the one of this name."""
        splits, _ = self.load_splits(config)
        if split not in splits:
            raise ConfigError(f"--split {split}: the configured data has {', '.join(splits)}")
        return splits

    def load_splits(self, config: DataConfig) -> tuple[Splits, list[str]]:
        """Return train, validation and test, without those that are empty, and lines that say what was loaded.

        Raises:
            ConfigError: where too few images are left to train on.
            DataError: on a bad row, unless `data.on_bad` is skip.
        """
        loaded = self.load_rows(config)
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
    """Return `count` of the samples, and the others. Either part may be empty."""
    if count <= 0:
        return (), samples
    if count >= len(samples):
        return samples, ()
    assert isinstance(samples, SampleSet)  # the only other argument is (), which has returned above
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
