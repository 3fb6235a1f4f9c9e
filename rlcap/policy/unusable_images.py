"""Images that a captioner's processor refuses although they are complete, such as one of 900 × 3 pixels."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from rlcap.io.images import check_image, open_image
from rlcap.policy.captioner import Captioner

EXTREME_RATIO = 20.0
"""Images that are this many times longer than wide, or more, are tried. The processors of Qwen refuse more than 200 times."""
SMALL_SIDE = 56
"""Images with a shorter side are tried. Processors that cut patches need at least one."""


def find_unusable(captioner: Captioner, paths: Iterable[str]) -> dict[str, str]:
    """Return path → error for the images that the captioner can't read.

    Only images of an unusual shape are opened, because a processor scales all others.

    Args:
        captioner: The captioner.
        paths: Image files, which must be complete.

    Raises:
        ImageError: A file can't be opened.
    """
    found: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        width, height = check_image(path)
        if max(width, height) < EXTREME_RATIO * min(width, height) and min(width, height) >= SMALL_SIDE:
            continue
        try:
            with torch.no_grad():
                captioner.prepare([open_image(path)], "describe")
        except Exception as error:  # each processor raises its own types; all of them mean this image
            text = " ".join(str(error).split())[:200]
            found[path] = (
                f"{width} × {height} pixels can't be read by {captioner.kind} ({type(error).__name__}: {text})"
            )
    return found
