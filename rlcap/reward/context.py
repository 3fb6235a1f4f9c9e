"""What a caller knows that rewards may need: their constructors get it by the names of their parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def reward_context(
    images: Iterable[str], *, base: str | None, instruction: str, device: str | None = None
) -> dict[str, Any]:
    """Return the context of `RewardMix.from_config`.

    Args:
        images: Image paths that fillers of bags may be drawn from; "" stands for no image.
        base: The base of the captioner; None where there is none.
        instruction: The instruction that the captions answer.
        device: Device of the rewards' models; None for a GPU if there is one.
    """
    import torch

    return {
        "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "gallery": sorted({image for image in images if image}),
        "base": base,
        "instruction": instruction,
    }
