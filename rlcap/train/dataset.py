"""Samples as the rows of a TRL data set: ids, texts and paths, never pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence

from datasets import Dataset

from rlcap.data.prompts import caption_prompt
from rlcap.types import Sample


def to_dataset(samples: Sequence[Sample], instruction: str) -> Dataset:
    """Columns prompt, sample_id, image_path, references, paragraph, distractors (JSON: level → ids) and meta (JSON)."""
    return Dataset.from_list(
        [
            {
                "prompt": caption_prompt(instruction),
                "sample_id": sample.id,
                "image_path": sample.image,
                "references": list(sample.references),
                "paragraph": sample.paragraph,
                "distractors": json.dumps({level: list(ids) for level, ids in sample.distractors.items()}),
                "meta": json.dumps(dict(sample.meta)),
            }
            for sample in samples
        ]
    )
