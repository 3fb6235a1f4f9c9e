"""Before the first step: do captions of full length of the largest image fit through an update, and what memory do they take?

An update that runs out of memory an hour into a run, at the first large image, is found here in seconds, with the
micro-batch that fits.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from rlcap.data.batching import Batching
from rlcap.errors import BatchingError
from rlcap.io.images import open_image
from rlcap.policy.captioner import Captioner
from rlcap.policy.value_model import ValueModel

LOOKED_AT = 10_000
"""Images whose size is read to find the largest, spread over the data."""


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """An update of one micro-batch, tried."""

    image: str
    width: int
    height: int
    visual_tokens: int | None
    captions: int
    tokens: int
    peak: int
    """Bytes at most: of the GPU, or of this process's memory on a CPU."""
    total: int
    """Bytes that there are."""

    def describe(self) -> str:
        """One line for the start of a run."""
        seen = "" if self.visual_tokens is None else f", {self.visual_tokens} visual tokens"
        return (
            f"preflight: {self.captions} captions of {self.tokens} tokens of the largest image ({self.width} × {self.height}"
            f"{seen}) take {self.peak / 1e9:.2f} GB at most, of {self.total / 1e9:.1f}"
        )


def check_memory(
    captioner: Captioner,
    paths: Sequence[str],
    batching: Batching,
    instruction: str,
    tokens: int,
    value_model: ValueModel | None = None,
) -> MemoryCheck:
    """Run the forward and backward pass of one micro-batch with the largest image, also through the value model where there is one.

    The gradients are dropped afterwards.

    Raises:
        BatchingError: where it does not fit into memory; the message names the largest micro-batch that does.
    """
    step = -(-len(paths) // LOOKED_AT)
    image = max(paths[::step], key=_pixels)
    opened = open_image(image)
    for captions in (batching.micro_batch, *batching.smaller_micro_batches()):
        images = max(1, captions // batching.captions_per_image)
        try:
            peak = _update(captioner, [opened] * images, captions, instruction, tokens, value_model)
        except torch.OutOfMemoryError:
            _drop_gradients(captioner)
            torch.cuda.empty_cache()
            continue
        if captions < batching.micro_batch:
            raise BatchingError(
                f"an update of {batching.micro_batch} captions of {tokens} tokens of {image} ({opened.width} × "
                f"{opened.height}) does not fit into memory; {captions} fit: set train.micro_batch={captions}"
            )
        seen = captioner.visual_tokens(opened)
        return MemoryCheck(image, opened.width, opened.height, seen, captions, tokens, peak, _memory())
    raise BatchingError(
        f"an update of a single caption of {tokens} tokens of {image} ({opened.width} × {opened.height}) does not fit into "
        "memory; smaller images, a shorter generation.max_new_tokens, train.gradient_checkpointing=true or a smaller model may"
    )


def _update(
    captioner: Captioner,
    images: list[Image.Image],
    captions: int,
    instruction: str,
    tokens: int,
    value_model: ValueModel | None,
) -> int:
    """Peak bytes of an update on `captions` captions."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    ids = torch.full((captions, tokens), captioner.end_ids[0], device=captioner.base.device)
    prompts = captioner.prepare(images, instruction)
    mask = torch.ones_like(ids)
    loss = captioner.log_probs(prompts, ids, mask, entropies=True).log_probs.mean()
    if value_model is not None:
        loss = loss + value_model.values(captioner, prompts, ids, mask).mean()
    loss.backward()
    _drop_gradients(captioner)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _drop_gradients(captioner: Captioner) -> None:
    for parameter in captioner.model.parameters():
        parameter.grad = None


def _pixels(path: str) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def _memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
