"""Curricula over bags: pure functions from the progress of a run to a stage, so that resuming needs only the progress.

A stage says how many similar images a caption must be distinguished from. BagCurri (algorithms.md §1.7) grows the bag
from 2 to 20 images over 20 epochs; here the same schedule is a function of the progress in [0, 1].

    curriculum = parse("bagcurri")                          # or {0.0: 2, 0.15: 3, 0.4: 5}, or {"bag_size": 5}
    curriculum.stage_at(0.5).bag_size                       # 7

`Adaptive` grows the bag when captions find their image often enough. Its small immutable state belongs in the
checkpoint. Every curriculum has `stage_at(progress, state)`, so that a trainer handles all of them alike.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rlcap.errors import ConfigError

LEVELS = ("hard", "medium", "easy", "random")
"""Where the distractors of a bag come from: nearest neighbours, neighbours further away, or random images."""

_PUBLISHED = ((3, 2), (8, 3), (10, 5), (12, 7), (14, 10), (17, 15), (20, 20))
"""Pairs (exclusive 0-based end epoch, bag size): the schedule in sr.yml of NDLB at commit 3db9c82."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run with bags of one size and one level."""

    name: str
    """Name of the stage in logs."""
    bag_size: int
    """Images of a bag: the caption's own image and `bag_size - 1` distractors."""
    level: str = "hard"
    """One of `LEVELS`."""

    def __post_init__(self) -> None:
        if self.bag_size < 2:
            raise ConfigError(f"stage {self.name!r}: bag_size {self.bag_size} leaves no distractor; write 2 or more")
        if self.level not in LEVELS:
            raise ConfigError(f"stage {self.name!r}: unknown level {self.level!r}; known are {', '.join(LEVELS)}")

    @property
    def distractors(self) -> int:
        """The number of distractors in a bag."""
        return self.bag_size - 1


@dataclass(frozen=True, slots=True)
class BagCurri:
    """A schedule of stages by progress."""

    starts: tuple[float, ...]
    """The progress at which each stage starts, in [0, 1) and increasing; the first is 0."""
    stages: tuple[Stage, ...]
    """The stages; each lasts until the next one starts."""

    def __post_init__(self) -> None:
        if not self.starts or len(self.starts) != len(self.stages):
            raise ConfigError(f"BagCurri: {len(self.starts)} starts for {len(self.stages)} stages")
        if self.starts[0] != 0:
            raise ConfigError(f"BagCurri: the first stage starts at {self.starts[0]}; it must start at 0.0")
        if any(b <= a for a, b in zip(self.starts, self.starts[1:], strict=False)) or self.starts[-1] >= 1:
            raise ConfigError(f"BagCurri: starts {list(self.starts)} must increase and stay below 1.0")

    @classmethod
    def published(cls) -> BagCurri:
        """Return the schedule of NDLB: sizes 2, 3, 5, 7, 10, 15, 20 over 20 epochs, all `hard`."""
        return cls.from_epochs(_PUBLISHED)

    @classmethod
    def from_epochs(cls, ends: Sequence[tuple[int, int]], level: str = "hard") -> BagCurri:
        """Make a schedule from pairs (exclusive 0-based end epoch, bag size) in increasing order.

        The last end epoch is the length of the run in epochs.
        """
        epochs = ends[-1][0]
        starts = (0, *(end for end, _ in ends[:-1]))
        stages = tuple(Stage(f"bag{size}", size, level) for _, size in ends)
        return cls(tuple(start / epochs for start in starts), stages)

    def stage_at(self, progress: float, state: AdaptiveState | None = None) -> Stage:
        """Return the stage at `progress`, the share of completed steps; outside [0, 1], the nearest stage."""
        # The tolerance makes a progress such as 3/20 reach its boundary, which floats can miss by an ulp.
        return self.stages[max(0, bisect.bisect_right(self.starts, progress + 1e-9) - 1)]


@dataclass(frozen=True, slots=True)
class Constant:
    """A curriculum with the same kind of bags during the whole run."""

    bag_size: int = 5
    """Images of a bag."""
    level: str = "hard"
    """One of `LEVELS`."""

    def __post_init__(self) -> None:
        self.stage_at(0.0)

    def stage_at(self, progress: float, state: AdaptiveState | None = None) -> Stage:
        """Return the only stage."""
        return Stage(f"{self.level}{self.bag_size}", self.bag_size, self.level)


@dataclass(frozen=True, slots=True)
class AdaptiveState:
    """The state of an adaptive curriculum."""

    index: int = 0
    """Index of the present bag size in `Adaptive.sizes`."""
    recent: tuple[float, ...] = ()
    """The latest in-bag R@1 values at this bag size, at most `Adaptive.window`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values, for the checkpoint."""
        return {"index": self.index, "recent": list(self.recent)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AdaptiveState:
        """Return the state that `to_dict` stored."""
        return cls(int(data["index"]), tuple(float(value) for value in data["recent"]))


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A curriculum that grows the bag when the mean of the last `window` in-bag R@1 values reaches `target`.

    The bag never shrinks. After it grows, the window starts empty, because recalls in the smaller bag say nothing about
    the larger one.
    """

    sizes: tuple[int, ...] = (2, 3, 5, 7, 10, 15, 20)
    """Bag sizes in increasing order."""
    target: float = 0.8
    """Mean R@1 in (0, 1) at which the bag grows."""
    window: int = 10
    """The number of observations in the mean, usually one per optimiser step."""
    level: str = "hard"
    """One of `LEVELS`."""

    def __post_init__(self) -> None:
        if not self.sizes or any(b <= a for a, b in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ConfigError(f"Adaptive: sizes {list(self.sizes)} must increase")
        if not 0 < self.target < 1:
            raise ConfigError(
                f"Adaptive: target {self.target} must lie between 0 and 1: it is a share, not a percentage"
            )
        if self.window < 1:
            raise ConfigError(f"Adaptive: window {self.window} must be 1 or more observations")
        for size in self.sizes:
            Stage("adaptive", size, self.level)

    def start(self) -> AdaptiveState:
        """Return the state at the start of a run."""
        return AdaptiveState()

    def observe(self, state: AdaptiveState, recall: float) -> AdaptiveState:
        """Return the state after one more in-bag R@1 in [0, 1], measured at the present bag size."""
        if not 0 <= recall <= 1:
            raise ConfigError(f"Adaptive: R@1 {recall} lies outside [0, 1]; give a share, not a percentage")
        recent = (*state.recent, recall)[-self.window :]
        if (
            len(recent) == self.window
            and sum(recent) / self.window >= self.target
            and state.index + 1 < len(self.sizes)
        ):
            return AdaptiveState(state.index + 1)
        return replace(state, recent=recent)

    def stage_at(self, progress: float, state: AdaptiveState | None = None) -> Stage:
        """Return the stage of `state`, whatever the progress; without a state, the first stage."""
        index = min((state or self.start()).index, len(self.sizes) - 1)
        return Stage(f"adaptive{self.sizes[index]}", self.sizes[index], self.level)


Curriculum = BagCurri | Constant | Adaptive


def parse(config: str | int | Mapping[Any, Any]) -> Curriculum:
    """Return the curriculum that a configuration describes.

    - `"bagcurri"`: the published schedule;
    - `5`: bags of 5 during the whole run;
    - `{0.0: 2, 0.15: 3, 0.4: "medium 5"}`: the progress at which a stage starts → bag size, `"level size"` or
      `{bag_size, level}`;
    - `{"bag_size": 5, "level": "random"}`: constant;
    - `{"sizes": [2, 3, 5], "target": 0.8, "window": 20}`: adaptive.

    Raises:
        ConfigError: The configuration has another form; the message names it.
    """
    if isinstance(config, str) and config == "bagcurri":
        return BagCurri.published()
    if isinstance(config, int) and not isinstance(config, bool):
        return Constant(config)
    if isinstance(config, Mapping) and config:
        for kind, required_key in ((Constant, "bag_size"), (Adaptive, "sizes")):
            if required_key in config:
                return _build(kind, config)
        try:
            by_start = sorted((float(start), stage) for start, stage in config.items())
        except (TypeError, ValueError):
            pass  # not a schedule either: the error below lists the valid forms
        else:
            stages = tuple(_parse_stage(value) for _, value in by_start)
            return BagCurri(tuple(start for start, _ in by_start), stages)
    raise ConfigError(
        f"curriculum {config!r} is not valid; write one of: 'bagcurri', a bag size, {{0.0: 2, 0.15: 3}}, "
        "{bag_size: 5, level: random}, {sizes: [2, 3, 5], target: 0.8, window: 20}"
    )


def describe(curriculum: Curriculum) -> str:
    """Return one line about the curriculum, for the start of a run."""
    match curriculum:
        case BagCurri(starts, stages):
            parts = (
                f"{stage.bag_size} ({stage.level}) from {start:.0%}"
                for start, stage in zip(starts, stages, strict=True)
            )
            return "bag size " + ", ".join(parts)
        case Constant(size, level):
            return f"bag size {size} ({level}) throughout"
        case Adaptive(sizes, target, window, level):
            return f"bag size {' → '.join(map(str, sizes))} ({level}), growing at R@1 ≥ {target:g} over {window} steps"


def _build(kind: type[Constant] | type[Adaptive], config: Mapping[str, Any]) -> Curriculum:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in config.items()
    }
    known = set(kind.__dataclass_fields__)
    if unknown := sorted(set(values) - known):
        raise ConfigError(
            f"curriculum: unknown key {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}"
        )
    return kind(**values)


def _parse_stage(value: Any) -> Stage:
    """Return the stage of a value in a schedule: a bag size, `"level size"` or `{bag_size, level}`."""
    level, size = "hard", value
    if isinstance(value, Mapping):
        level, size = value.get("level", "hard"), value.get("bag_size")
    elif isinstance(value, str):
        *words, size = value.split()
        level = words[0] if len(words) == 1 else " ".join(words) or "hard"
    try:
        size = int(size)
    except (TypeError, ValueError):
        raise ConfigError(
            f"curriculum stage {value!r}: write a bag size (5) or a level and a size ('medium 5')"
        ) from None
    return Stage(f"bag{size}" if level == "hard" else f"{level}{size}", size, level)


def to_dict(curriculum: Curriculum) -> dict[str, Any] | dict[float, Any]:
    """Return the form that `parse` reads, for the stored configuration of a run."""
    if isinstance(curriculum, BagCurri):
        pairs = zip(curriculum.starts, curriculum.stages, strict=True)
        return {start: {"bag_size": stage.bag_size, "level": stage.level} for start, stage in pairs}
    return asdict(curriculum)
