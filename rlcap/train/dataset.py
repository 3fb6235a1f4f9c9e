"""Converts samples into the rows of a TRL data set. The rows hold ids, texts and paths, but no pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from datasets import Dataset

from rlcap.data.control import Instruction
from rlcap.data.prompts import caption_prompt
from rlcap.types import Control, Sample


class DatasetRow(TypedDict):
    """One row of the data set. `rlcap.reward.trl_adapter` turns the columns of a batch of rows into a `RewardBatch`."""

    prompt: list[dict[str, str]]
    """The conversation that asks for a caption."""
    sample_id: str
    """Id of the sample."""
    image_path: str
    """Path of the image file."""
    references: list[str]
    """Short human captions of the image."""
    paragraph: str | None
    """The fused paragraph of the image."""
    distractors: str
    """JSON object: level → ids of similar images."""
    meta: str
    """JSON object: what else the source knows."""
    control: NotRequired[str]
    """JSON object: what is asked of the caption; for GRPO and PPO with the values that the trainer drew."""
    distractor_images: NotRequired[list[str]]
    """Image paths of the bag at the present stage of the curriculum. The trainer adds them."""


def control_of(row: DatasetRow) -> Control:
    """Return what is asked of the caption of a row."""
    return Control.parse(row.get("control"))


def to_dataset(samples: Sequence[Sample], instruction: str | Instruction) -> Dataset:
    """Return a data set with one `DatasetRow` per sample.

    Args:
        samples: The training samples.
        instruction: The instruction that all rows share, which is their prompt. The trainer adds the words of the controls.
    """
    return Dataset.from_list(
        [
            {
                "prompt": caption_prompt(Instruction.of(instruction).text),
                "sample_id": sample.id,
                "image_path": sample.image,
                "references": list(sample.references),
                "paragraph": sample.paragraph,
                "distractors": json.dumps({level: list(ids) for level, ids in sample.distractors.items()}),
                "meta": json.dumps(dict(sample.meta)),
                "control": json.dumps(sample.control.to_dict()),
            }
            for sample in samples
        ]
    )
