"""How many tokens of the prompt an image takes: what memory and time of a run depend on most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner


def count_visual_tokens(captioner: Captioner, paths: Sequence[str], most: int = 64) -> np.ndarray:
    """(n,) image tokens of the prompt for up to `most` images, spread over `paths`; (0,) where the family has none."""
    step = max(1, len(paths) // most)
    counts = (captioner.visual_tokens(open_image(path)) for path in list(paths)[::step][:most])
    return np.array([count for count in counts if count is not None])


def describe_visual_tokens(counts: np.ndarray) -> str:
    """One line for the start of a run."""
    if not len(counts):
        return "visual tokens per image: none, the decoder looks at the image by cross attention or before its text"
    return (
        f"visual tokens per image: median {np.median(counts):.0f}, 99 % at most {np.percentile(counts, 99):.0f}, "
        f"most {counts.max()} ({len(counts)} images looked at)"
    )
