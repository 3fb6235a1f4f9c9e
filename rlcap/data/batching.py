"""From what a user thinks in to what TRL wants.

A user states how many images an optimiser step learns from, how many captions are sampled for each, and how many
captions fit through one forward and backward pass of a device (the micro-batch). TRL counts otherwise
(`per_device_train_batch_size`, `gradient_accumulation_steps`, `steps_per_generation`, `num_generations`); `plan` derives its
numbers, `Batching.describe` prints the arithmetic:

    8 images × 8 captions = 64 captions a step, on 2 processes 32 each = 4 micro-batches of 8

A group (the captions of one image) never straddles processes: each process holds whole images.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from rlcap.errors import BatchingError

MIN_GROUP = 4
"""Below this many captions an image most groups say nothing: two captions often score alike (pitfalls 7)."""


@dataclass(frozen=True, slots=True)
class Batching:
    """A valid choice and TRL's numbers for it. Made by `plan`."""

    images_per_step: int
    captions_per_image: int
    micro_batch: int
    processes: int
    num_iterations: int
    minibatches: int = 1

    @property
    def captions_per_step(self) -> int:
        """Captions over all processes that one optimiser step learns from."""
        return self.images_per_step * self.captions_per_image

    @property
    def images_per_round(self) -> int:
        """Distinct images over all processes whose captions are generated at once."""
        return self.images_per_step * self.minibatches

    @property
    def captions_per_process(self) -> int:
        """Captions that a process generates at once, its share of TRL's `generation_batch_size`; whole groups."""
        return self.images_per_round * self.captions_per_image // self.processes

    @property
    def accumulation(self) -> int:
        """Micro-batches of a process in one optimiser step."""
        return self.captions_per_step // self.processes // self.micro_batch

    def smaller_micro_batches(self) -> list[int]:
        """Possible micro-batches below this one, the largest first: what to try when memory runs out."""
        captions, group = self.captions_per_process, self.captions_per_image
        return [n for n in range(self.micro_batch - 1, 0, -1) if _fits(n, captions, group)]

    def trl(self) -> dict[str, int]:
        """Arguments for `trl.GRPOConfig`. TRL works out `generation_batch_size` itself and refuses to be told both."""
        return {
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation,
            "steps_per_generation": self.accumulation * self.minibatches,
            "num_generations": self.captions_per_image,
            "num_iterations": self.num_iterations,
        }

    def steps_per_generation_round(self) -> int:
        """Optimiser steps between two generations: the checkpoint interval must be a multiple of it."""
        return self.minibatches * self.num_iterations

    def describe(self) -> str:
        """The arithmetic, for the start of a run."""
        lines = [
            f"{self.images_per_step} images × {self.captions_per_image} captions = {self.captions_per_step} captions a step",
            f"on {self.processes} process{'es' * (self.processes > 1)}: {self.images_per_step // self.processes} images, "
            f"{self.captions_per_step // self.processes} captions each = {self.accumulation} × a micro-batch of {self.micro_batch}",
        ]
        if self.minibatches > 1:
            lines.append(
                f"a round writes the captions of {self.minibatches} steps at once: {self.images_per_round} images"
            )
        if self.num_iterations > 1:
            lines.append(f"each round of captions is gone through {self.num_iterations} times")
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
    """The batching that these numbers describe.

    Args:
        images_per_step: distinct images of an optimiser step, over all processes; a multiple of `processes`.
        captions_per_image: the group size, TRL's `num_generations`; 2 at least, 4 or more to learn well.
        micro_batch: captions of one forward pass on a device; must divide `images_per_step / processes × captions_per_image`
            into whole groups, or a group into equal parts.
        processes: how many processes train, usually one a GPU.
        num_iterations: how often a round of generated captions is gone through (μ of GRPO, PPO's epochs).
        minibatches: optimiser steps that going through a round once makes, each on its own `images_per_step` images.

    Raises:
        BatchingError: impossible, with the two nearest possible choices.
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
            f"captions_per_image is {captions_per_image}: with fewer than {MIN_GROUP} many groups score alike and teach "
            "nothing; 8 is the usual choice",
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
            f"images_per_step {images_per_step} can't be shared out evenly to {processes} processes without splitting the "
            f"captions of an image; nearest possible with micro_batch {micro_batch}: images_per_step {_either(near)}"
        )
    local = images_per_step // processes * captions_per_image
    if not _fits(micro_batch, local, captions_per_image):
        near = _nearest(micro_batch, lambda n: _fits(n, local, captions_per_image), most=local)
        raise BatchingError(
            f"micro_batch {micro_batch} does not divide the {local} captions of a process "
            f"({images_per_step} images / {processes} × {captions_per_image} captions) into whole groups, or one group into "
            f"equal parts; nearest possible: micro_batch {_either(near)}"
        )
    return Batching(images_per_step, captions_per_image, micro_batch, processes, num_iterations, minibatches)


def _fits(micro_batch: int, captions: int, group: int) -> bool:
    """Whether micro-batches divide the captions, and hold whole groups or equal parts of one: a group's image and
    instruction are read once a micro-batch."""
    return captions % micro_batch == 0 and (micro_batch % group == 0 or group % micro_batch == 0)


def _nearest(wanted, possible, most: int | None = None) -> list[int]:
    """The two possible values nearest to `wanted`: one on either side where there are, else the next ones."""
    most = most or wanted * 2 + 10_000
    below = [n for n in range(min(wanted, most), 0, -1) if possible(n)][:2]
    above = []
    for n in range(wanted + 1, most + 1):
        if possible(n):
            above.append(n)
            if len(above) == 2:
                break
    if below and above:
        return [below[0], above[0]]
    return sorted(below + above)


def _either(values: list[int]) -> str:
    return " or ".join(map(str, values))
