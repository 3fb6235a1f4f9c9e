"""The order of images in training: a pure function of (seed, epoch), in the layout that TRL's GRPOTrainer expects.

TRL's RepeatSampler draws the permutation of each epoch from one running generator, so that a run resumed in epoch k
repeats the order of epoch 0. Here epoch k always has the same order, whatever came before.

An example with 9 images, 2 processes, 4 images per step, 2 captions per image and micro-batches of 2, that is 2
micro-batches per process and step:

    >>> batching = plan(images_per_step=4, captions_per_image=2, micro_batch=2, processes=2)
    >>> sampler = GroupSampler.from_batching(batching, images=9, seed=0)
    >>> epoch_order(9, seed=0, epoch=0).tolist()
    [4, 5, 2, 6, 3, 8, 7, 0, 1]
    >>> list(sampler)                       # image 1 is left out in this epoch: it would not fill a step
    [4, 4, 5, 5, 2, 2, 6, 6,                # step 0, micro-batch 0: process 0 takes 4 4 5 5, process 1 takes 2 2 6 6
     4, 4, 5, 5, 2, 2, 6, 6,                # step 0, micro-batch 1: the same rows; TRL reuses its captions
     3, 3, 8, 8, 7, 7, 0, 0,                # step 1
     3, 3, 8, 8, 7, 7, 0, 0]

A batch of the DataLoader is what a process generates at once (`captions_per_process`). So accelerate gives each process
every second run of 4 indices, which consists of whole groups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler

from rlcap.data.batching import Batching
from rlcap.errors import ConfigError


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of range(n) for an epoch (0-based): (n,) int64, the same on every machine and process."""
    # PCG64 and Generator.permutation are stable across platforms; torch.randperm does not promise this.
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n)


def sampling_uniforms(seed: int, step: int, sample_id: str, captions: int, tokens: int) -> np.ndarray:
    """Return the random numbers that decide the captions of an image in a step: (captions, tokens) float64 in [0, 1).

    They depend only on the arguments. With equal weights, a resumed run, a run with another number of processes and a
    batch with another order of images therefore sample the same captions.
    """
    image = int.from_bytes(hashlib.sha256(sample_id.encode("utf-8", "surrogatepass")).digest()[:8])
    return np.random.Generator(np.random.PCG64([seed, step, image])).random((captions, tokens))


class GroupSampler(Sampler[int]):
    """A sampler that yields the indices of an epoch in the layout of TRL.

    An epoch consists of steps of `images_per_step` images. Each image occurs `group` times in a row, and each step is
    repeated `repeats` times. All steps have the same size: the last `n % images_per_step` images in the order of an
    epoch are left out of that epoch. Another epoch leaves out other images.

    Args:
        n: Images of the data set.
        images_per_step: Distinct images of one generation, over all processes.
        group: Captions per image (TRL's mini_repeat_count).
        repeats: Micro-batches per generation times the iterations over it (TRL's repeat_count).
        seed: Decides the order, together with the epoch.
        shuffle: Whether to shuffle; otherwise the order of the data set is kept.
        minibatches: Optimiser steps of one pass over a generation.
        processes: The number of processes that share a generation. Each takes a contiguous part of its images, and the
            layout ensures that a step learns from the same images for every number of processes.

    Raises:
        ConfigError: There are fewer images than one step needs.
    """

    def __init__(
        self,
        n: int,
        images_per_step: int,
        group: int,
        repeats: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        minibatches: int = 1,
        processes: int = 1,
    ):
        if n < images_per_step:
            raise ConfigError(
                f"the data set has {n} images but a step needs {images_per_step}; set images_per_step to {n} or less"
            )
        self.n, self.images_per_step, self.group, self.repeats = n, images_per_step, group, repeats
        self.seed, self.shuffle = seed, shuffle
        self.minibatches, self.processes = minibatches, processes
        self.epoch = 0

    @classmethod
    def from_batching(cls, batching: Batching, images: int, seed: int = 0, shuffle: bool = True) -> GroupSampler:
        """Make the sampler that fits `batching`, for a data set of `images` images.

        Raises:
            ConfigError: There are fewer images than one round needs.
        """
        if images < batching.images_per_round and batching.minibatches > 1:
            raise ConfigError(
                f"the data set has {images} images but a round needs {batching.images_per_step} × "
                f"{batching.minibatches} minibatches; reduce images_per_step or minibatches"
            )
        repeats = batching.accumulation * batching.minibatches * batching.num_iterations
        shares = batching.minibatches, batching.processes
        return cls(images, batching.images_per_round, batching.captions_per_image, repeats, seed, shuffle, *shares)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based) of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self.n, self.seed, self.epoch) if self.shuffle else np.arange(self.n)
        steps = self.n // self.images_per_step
        rounds = order[: steps * self.images_per_step].reshape(steps, self.minibatches, self.processes, -1)
        for images in rounds.swapaxes(1, 2).reshape(steps, self.images_per_step):
            yield from np.tile(images.repeat(self.group), self.repeats).tolist()

    def __len__(self) -> int:
        return self.n // self.images_per_step * self.images_per_step * self.group * self.repeats


def set_epoch(dataloader: Any, epoch: int) -> None:
    """Set the epoch of the sampler inside a prepared DataLoader, however deeply it is wrapped.

    The sampler is a `GroupSampler`, or accelerate's `SeedableRandomSampler`, which shuffles rows for a plain Trainer.

    accelerate 1.15 reaches a sampler through one wrapper only. A run on several processes that resumes in the middle of
    an epoch has two wrappers (SkipBatchSampler around BatchSamplerShard). Then accelerate's call does not reach the
    sampler, and the resumed epoch would follow the order of epoch 0. Call this function, or `GroupSampler.set_epoch` on
    the sampler itself, at the start of each epoch and before the first batch is requested.

    Raises:
        TypeError: The DataLoader contains neither of the two samplers.
    """
    layer = dataloader
    while layer is not None:
        if isinstance(layer, GroupSampler | SeedableRandomSampler):
            layer.set_epoch(epoch)
            return
        inner = getattr(layer, "batch_sampler", None)
        layer = inner if inner is not None else getattr(layer, "sampler", None)
    raise TypeError(
        f"no GroupSampler or SeedableRandomSampler inside {type(dataloader).__name__}; its order would not follow the epoch"
    )
