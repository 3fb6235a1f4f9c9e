"""The number of prompt tokens per image, on which the memory and the time of a run depend most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner


def count_visual_tokens(captioner: Captioner, paths: Sequence[str], most: int = 64) -> np.ndarray:
    """Count the image tokens of the prompt for a sample of images.

    Args:
        captioner: the captioner that makes the prompts.
        paths: image files.
        most: largest number of images to open; they are spread evenly over `paths`.

    Returns:
        (n,) counts; (0,) where the model family has no image tokens.
    """
    step = max(1, len(paths) // most)
    counts = (captioner.visual_tokens(open_image(path)) for path in list(paths)[::step][:most])
    return np.array([count for count in counts if count is not None])


def describe_visual_tokens(counts: np.ndarray) -> str:
    """Describe the counts in one line, for the start of a run."""
    if not len(counts):
        return "visual tokens per image: none; the decoder reads the image by cross attention or before its text"
    return (
        f"visual tokens per image: median {np.median(counts):.0f}, 99 % at most {np.percentile(counts, 99):.0f}, "
        f"maximum {counts.max()} ({len(counts)} images counted)"
    )
