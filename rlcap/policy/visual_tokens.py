"""How many tokens of the prompt an image takes: what memory and time of a run depend on most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcap.data.images import open_image


def count_visual_tokens(processor: Any, paths: Sequence[str], most: int = 64) -> np.ndarray:
    """(n,) image tokens of the prompt for up to `most` images, spread over `paths`.

    ValueError for a processor that names no image token.
    """
    token = getattr(processor, "image_token_id", None)
    if token is None:
        raise ValueError(f"{type(processor).__name__} names no image_token_id; visual tokens can't be counted")
    step = max(1, len(paths) // most)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "describe"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    counts = []
    for path in list(paths)[::step][:most]:
        ids = processor(images=[[open_image(path)]], text=[text], return_tensors="pt")["input_ids"]
        counts.append(int((ids == token).sum()))
    return np.array(counts)


def describe_visual_tokens(counts: np.ndarray) -> str:
    """One line for the start of a run."""
    return (
        f"visual tokens per image: median {np.median(counts):.0f}, 99 % below {np.percentile(counts, 99):.0f}, "
        f"most {counts.max()} ({len(counts)} images looked at)"
    )
