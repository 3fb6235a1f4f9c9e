"""How long the parts of a step take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

MODEL_PHASES = ("generate", "old", "reference", "values")
"""Phases of a round in which the captioner or the value model computes."""


class StepTimes:
    """Wall-clock seconds of a step: of the phases of the round with which it may begin, and of the update.

    Args:
        log: Called with the name and the value of each metric.
    """

    def __init__(self, log: Callable[[str, float], None]) -> None:
        self._log = log
        self._phases: defaultdict[str, float] = defaultdict(float)
        self._update = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds inside this context to a phase, which may run several times in a round."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._phases[name] += time.perf_counter() - start

    @contextmanager
    def update(self) -> Iterator[None]:
        """Add the seconds inside this context to the update, without those of a round that begins in it."""
        start, before = time.perf_counter(), self._phases["round"]
        yield
        self._update += time.perf_counter() - start - (self._phases["round"] - before)

    def finish(self) -> None:
        """Log `seconds/<name>` of the phases and of the update, and begin with the next step.

        `outside_model_share` is the share of the step, in [0, 1], in which no model computes: scoring, batching and logging.
        """
        outside = self._phases["round"] - sum(self._phases[name] for name in MODEL_PHASES)
        share = max(0.0, outside) / (self._phases["round"] + self._update)
        for name, seconds in self._phases.items():
            if seconds:
                self._log(f"seconds/{name}", seconds)
        self._log("seconds/update", self._update)
        self._log("outside_model_share", share)
        self._phases.clear()
        self._update = 0.0
