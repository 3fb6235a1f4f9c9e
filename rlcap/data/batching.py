"""Translates the user's batch sizes into TRL's.

A user states how many images an optimiser step learns from, how many captions are sampled for each image, and how many
captions fit into one forward and backward pass of a device (the micro-batch). TRL uses other numbers
(`per_device_train_batch_size`, `gradient_accumulation_steps`, `steps_per_generation`, `num_generations`). `plan`
derives them, and `Batching.describe` prints the arithmetic:

    8 images × 8 captions = 64 captions per step, on 2 processes 32 each = 4 micro-batches of 8

The captions of one image (a group) are never split between processes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from rlcap.errors import BatchingError

MIN_GROUP = 4
"""With fewer captions per image, most groups teach nothing, because their captions often score equally (pitfalls 7)."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Valid batch sizes and TRL's numbers for them. `plan` makes them."""

    images_per_step: int
    """Distinct images of an optimiser step, over all processes."""
    captions_per_image: int
    """Captions that are sampled for each image: the size of a group."""
    micro_batch: int
    """Captions of one forward and backward pass on a device."""
    processes: int
    """The number of processes."""
    num_iterations: int
    """How often each round of generated captions is used."""
    minibatches: int = 1
    """Optimiser steps of one pass over a round."""

    @property
    def captions_per_step(self) -> int:
        """Captions over all processes that one optimiser step learns from."""
        return self.images_per_step * self.captions_per_image

    @property
    def images_per_round(self) -> int:
        """Distinct images over all processes whose captions are generated together."""
        return self.images_per_step * self.minibatches

    @property
    def captions_per_process(self) -> int:
        """Captions that one process generates together: its share of TRL's `generation_batch_size`, in whole groups."""
        return self.images_per_round * self.captions_per_image // self.processes

    @property
    def accumulation(self) -> int:
        """Micro-batches of a process in one optimiser step."""
        return self.captions_per_step // self.processes // self.micro_batch

    def smaller_micro_batches(self) -> list[int]:
        """Return the possible micro-batches below this one, the largest first, to try when memory runs out."""
        captions, group = self.captions_per_process, self.captions_per_image
        return [n for n in range(self.micro_batch - 1, 0, -1) if _fits(n, captions, group)]

    def trl(self) -> dict[str, int]:
        """Return arguments for `trl.GRPOConfig`.

        `generation_batch_size` is not among them: TRL computes it and does not accept it together with
        `steps_per_generation`.
        """
        return {
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "steps_per_generation": self.accumulation * self.minibatches,
            "num_generations": self.captions_per_image,
            "num_iterations": self.num_iterations,
        }

    def steps_per_generation_round(self) -> int:
        """Return the optimiser steps between two generations; the checkpoint interval must be a multiple of it."""
        return self.minibatches * self.num_iterations

    def describe(self) -> str:
        """Return the arithmetic as text, for the start of a run."""
        lines = [
            f"{self.images_per_step} images × {self.captions_per_image} captions = "
            f"{self.captions_per_step} captions per step",
            f"on {self.processes} process{'es' * (self.processes > 1)}: "
            f"{self.images_per_step // self.processes} images, {self.captions_per_step // self.processes} captions "
            f"each = {self.accumulation} × a micro-batch of {self.micro_batch}",
        ]
        if self.minibatches > 1:
            lines.append(
                f"a round generates the captions of {self.minibatches} steps at once: {self.images_per_round} images"
            )
        if self.num_iterations > 1:
            lines.append(f"each round of captions is used {self.num_iterations} times")
        lines.append("TRL: " + ", ".join(f"{name}={value}" for name, value in self.trl().items()))
        return "\n".join(lines)


def plan(
    images_per_step: int,
    captions_per_image: int,
    micro_batch: int,
    *,
    processes: int = 1,
    num_iterations: int = 1,
    minibatches: int = 1,
) -> Batching:
    """Check the batch sizes and return them as a `Batching`.

    Args:
        images_per_step: Distinct images of an optimiser step, over all processes; a multiple of `processes`.
        captions_per_image: The group size, TRL's `num_generations`; at least 2, and 4 or more for good learning.
        micro_batch: Captions of one forward pass on a device. It must divide the
            `images_per_step / processes × captions_per_image` captions of a process into whole groups, or a group into
            equal parts.
        processes: The number of processes, usually one per GPU.
        num_iterations: How often each round of generated captions is used (μ of GRPO, the epochs of PPO).
        minibatches: Optimiser steps of one pass over a round, each on its own `images_per_step` images.

    Raises:
        BatchingError: The batch sizes are impossible; the message proposes the two nearest possible ones.
    """
    for name, value, least in (
        ("images_per_step", images_per_step, 1),
        ("captions_per_image", captions_per_image, 2),
        ("micro_batch", micro_batch, 1),
        ("processes", processes, 1),
        ("num_iterations", num_iterations, 1),
        ("minibatches", minibatches, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BatchingError(f"{name} is {value!r}; it must be a whole number of {least} or more")
    if captions_per_image < MIN_GROUP:
        warnings.warn(
            f"captions_per_image is {captions_per_image}: with fewer than {MIN_GROUP} captions, all captions of many "
            "groups score equally, and such groups teach nothing; 8 is the usual choice",
            stacklevel=2,
        )
    if images_per_step % processes:
        near = _nearest(
            images_per_step,
            lambda n: (
                n % processes == 0 and _fits(micro_batch, n // processes * captions_per_image, captions_per_image)
            ),
        )
        raise BatchingError(
            f"images_per_step {images_per_step} can't be divided evenly among {processes} processes without splitting "
            f"the captions of an image; nearest possible with micro_batch {micro_batch}: images_per_step {_join(near)}"
        )
    local = images_per_step // processes * captions_per_image
    if not _fits(micro_batch, local, captions_per_image):
        near = _nearest(micro_batch, lambda n: _fits(n, local, captions_per_image), most=local)
        raise BatchingError(
            f"micro_batch {micro_batch} does not divide the {local} captions of a process "
            f"({images_per_step} images / {processes} × {captions_per_image} captions) into whole groups, or one group "
            f"into equal parts; nearest possible: micro_batch {_join(near)}"
        )
    return Batching(images_per_step, captions_per_image, micro_batch, processes, num_iterations, minibatches)


def _fits(micro_batch: int, captions: int, group: int) -> bool:
    """Return whether micro-batches divide the captions evenly into whole groups or into equal parts of groups.

    The model encodes the image and the instruction of a group once per micro-batch.
    """
    return captions % micro_batch == 0 and (micro_batch % group == 0 or group % micro_batch == 0)


def _nearest(value, is_possible, most: int | None = None) -> list[int]:
    """Return the two possible values nearest to `value`: one on each side where both exist, else two on one side."""
    most = most or value * 2 + 10_000
    below = [n for n in range(min(value, most), 0, -1) if is_possible(n)][:2]
    above = []
    for n in range(value + 1, most + 1):
        if is_possible(n):
            above.append(n)
            if len(above) == 2:
                break
    if below and above:
        return [below[0], above[0]]
    return sorted(below + above)


def _join(values: list[int]) -> str:
    return " or ".join(map(str, values))
