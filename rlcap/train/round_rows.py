"""The rows of a round: what they get beside what the data set holds, and the rows that may take the place of others."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rlcap.data.bags import random_distractors
from rlcap.data.control import ControlSampler
from rlcap.data.curriculum import Stage
from rlcap.train.dataset import DatasetRow, control_of
from rlcap.train.refill import draw_reserve


class RoundRows:
    """Completes rows by what depends on the stage of the curriculum and on the epoch, and draws rows from a reserve.

    Args:
        dataset: The training rows.
        gallery: Id → image path of all images that can be distractors.
        controls: Draws the controls.
        seed: Seed of the run.
    """

    def __init__(self, dataset: Any, gallery: Mapping[str, str], controls: ControlSampler, seed: int) -> None:
        self.dataset, self.gallery, self.controls, self.seed = dataset, dict(gallery), controls, seed

    def select_distractors(self, row: DatasetRow, stage: Stage) -> list[str]:
        """Return the image paths of the distractors of a row, nearest first. They depend on the row and the stage alone.

        Args:
            row: A row of the data set.
            stage: Determines the number of distractors and their level.
        """
        if stage.level == "random":
            ids: Sequence[str] = self._draw_random_bags(stage.bag_size)[row["sample_id"]]
        else:
            ids = json.loads(row["distractors"]).get(stage.level, [])
        return [self.gallery[i] for i in ids if i in self.gallery][: stage.distractors]

    def complete(self, row: Mapping[str, Any], stage: Stage, epoch: int) -> DatasetRow:
        """Return a row with its bag, which depends on the stage, and its control, which depends on the epoch."""
        own = cast("DatasetRow", dict(row))
        own["distractor_images"] = self.select_distractors(own, stage)
        own["control"] = json.dumps(self.controls.draw(control_of(own), own["sample_id"], epoch).to_dict())
        return own

    def reserve(self, used: set[str], step: int, place: int, attempt: int, stage: Stage, epoch: int) -> DatasetRow:
        """Return a row for a place in the round: of an image that the round does not have yet, where there is one.

        Args:
            used: Ids of the samples in the round.
            step: Optimiser steps before the round.
            place: Number of the group in the round, over all processes.
            attempt: Number of the attempt to fill the place, from 0.
            stage: Stage of the curriculum.
            epoch: Epoch of the run.
        """
        drawn = draw_reserve(len(self.dataset), self.seed, step, place, attempt + 1 + len(used))
        unused = [index for index in drawn if self.dataset[index]["sample_id"] not in used] or drawn
        return self.complete(self.dataset[unused[min(attempt, len(unused) - 1)]], stage, epoch)

    @functools.lru_cache(maxsize=4)  # noqa: B019  a process has only one trainer
    def _draw_random_bags(self, size: int) -> dict[str, tuple[str, ...]]:
        return random_distractors(self.gallery, min(size, len(self.gallery)), 0)
