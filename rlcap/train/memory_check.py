"""Checks before the first step whether an update fits into memory, with the largest image and captions of full length.

Without the check, a run could end after an hour, at the first large image. The check takes seconds, and its error message
names the micro-batch that fits.
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

MAX_SIZES_READ = 10_000
"""Number of images, spread over the data, whose sizes are read to find the largest."""


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """The result of a trial update with one micro-batch."""

    image: str
    """Path of the largest image."""
    width: int
    """Width of the image in pixels."""
    height: int
    """Height of the image in pixels."""
    visual_tokens: int | None
    """Tokens of the image in the prompt; None where the captioner has none."""
    captions: int
    """Captions in the micro-batch."""
    tokens: int
    """Tokens of each caption."""
    peak: int
    """Maximum memory in bytes: of the GPU, or of this process on a machine without a GPU."""
    total: int
    """Memory of the GPU or the machine in bytes."""

    def describe(self) -> str:
        """Return one line for the start of a run."""
        visual = "" if self.visual_tokens is None else f", {self.visual_tokens} visual tokens"
        return (
            f"memory check: {self.captions} captions of {self.tokens} tokens for the largest image ({self.width} × "
            f"{self.height}{visual}) use up to {self.peak / 1e9:.2f} of {self.total / 1e9:.1f} GB"
        )


def check_memory(
    captioner: Captioner,
    paths: Sequence[str],
    batching: Batching,
    instruction: str,
    tokens: int,
    value_model: ValueModel | None = None,
) -> MemoryCheck:
    """Run the forward and backward pass of one micro-batch with the largest image, and drop the gradients.

    Args:
        captioner: The captioner that is trained.
        paths: Paths of the training images.
        batching: The batch sizes.
        instruction: The instruction to the captioner.
        tokens: Maximum length of a caption, in tokens.
        value_model: The value model of PPO, whose forward and backward pass are included; None where there is none.

    Raises:
        BatchingError: The micro-batch does not fit into memory. The message names the largest one that does.
    """
    step = -(-len(paths) // MAX_SIZES_READ)
    image = max(paths[::step], key=_count_pixels)
    opened = open_image(image)
    for captions in (batching.micro_batch, *batching.smaller_micro_batches()):
        images = max(1, captions // batching.captions_per_image)
        try:
            peak = _try_update(captioner, [opened] * images, captions, instruction, tokens, value_model)
        except torch.OutOfMemoryError:
            _drop_gradients(captioner)
            torch.cuda.empty_cache()
            continue
        if captions < batching.micro_batch:
            raise BatchingError(
                f"an update with {batching.micro_batch} captions of {tokens} tokens for {image} ({opened.width} × "
                f"{opened.height}) does not fit into memory, but {captions} captions do: set train.micro_batch={captions}"
            )
        visual_tokens = captioner.visual_tokens(opened)
        return MemoryCheck(image, opened.width, opened.height, visual_tokens, captions, tokens, peak, _total_memory())
    raise BatchingError(
        f"an update with a single caption of {tokens} tokens for {image} ({opened.width} × {opened.height}) does not fit into "
        "memory; try smaller images, a smaller generation.max_new_tokens, train.gradient_checkpointing=true or a smaller model"
    )


def _try_update(
    captioner: Captioner,
    images: list[Image.Image],
    captions: int,
    instruction: str,
    tokens: int,
    value_model: ValueModel | None,
) -> int:
    """Return the peak memory in bytes of an update with `captions` captions."""
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


def _count_pixels(path: str) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def _total_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
