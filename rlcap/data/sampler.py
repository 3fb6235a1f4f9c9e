"""The order of images in training: a pure function of (seed, epoch), laid out as TRL's GRPOTrainer expects.

TRL's RepeatSampler draws each epoch's permutation from one running generator, so that a run resumed in epoch k replays
the order of epoch 0. Here epoch k always has the same order, whatever came before.

Two processes, 4 images a step, 2 captions an image, micro-batch 2 (so 2 micro-batches a process and step), 9 images:

    >>> batching = plan(images_per_step=4, captions_per_image=2, micro_batch=2, processes=2)
    >>> sampler = GroupSampler.from_batching(batching, images=9, seed=0)
    >>> epoch_order(9, seed=0, epoch=0).tolist()
    [4, 5, 2, 6, 3, 8, 7, 0, 1]
    >>> list(sampler)                       # image 1 is left out this epoch: it would not fill a step
    [4, 4, 5, 5, 2, 2, 6, 6,                # step 0, micro-batch 0: process 0 takes 4 4 5 5, process 1 takes 2 2 6 6
     4, 4, 5, 5, 2, 2, 6, 6,                # step 0, micro-batch 1: the same rows; TRL reuses the captions it has
     3, 3, 8, 8, 7, 7, 0, 0,                # step 1
     3, 3, 8, 8, 7, 7, 0, 0]

The DataLoader's batch is what a process generates at once (`captions_per_process`), so accelerate gives each process
every second run of 4 indices, and whole groups.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from rlcap.data.batching import Batching
from rlcap.types import ConfigError


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of range(n) for an epoch (0-based): (n,) int64, the same on every machine and process."""
    # PCG64 and Generator.permutation are stable across platforms; torch.randperm promises no such thing.
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n)


def sampling_uniforms(seed: int, step: int, sample_id: str, captions: int, tokens: int) -> np.ndarray:
    """The random numbers that decide the captions of an image in a step: (captions, tokens) float64 in [0, 1).

    A function of its arguments: a resumed run, another number of processes or another order of images in a batch
    draws the same captions (of the same weights).
    """
    image = int.from_bytes(hashlib.sha256(sample_id.encode("utf-8", "surrogatepass")).digest()[:8])
    return np.random.Generator(np.random.PCG64([seed, step, image])).random((captions, tokens))


class GroupSampler(Sampler[int]):
    """Indices of an epoch: steps of `images_per_step` images, each image `group` times, each step `repeats` times over.

    The last `n % images_per_step` images of an epoch's order are left out of that epoch (a step is never smaller than
    the others); another epoch leaves out others.

    Args:
        n: images of the data set.
        images_per_step: distinct images of a generation, over all processes.
        group: captions per image (TRL's mini_repeat_count).
        repeats: micro-batches per generation times iterations over it (TRL's repeat_count).
        seed: with the epoch it decides the order.
        shuffle: False keeps the order of the data set.
        minibatches: steps that a generation is gone through in, once.
        processes: that share it. Each takes a run of a generation's images, and these are laid out so that a step learns from
            the same images on however many processes.

    Raises:
        ValueError: fewer images than one step needs.
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
        """The sampler that fits TRL's numbers in `batching`."""
        if images < batching.images_per_round and batching.minibatches > 1:
            raise ConfigError(
                f"the data set has {images} images but a round needs {batching.images_per_step} × {batching.minibatches} "
                f"minibatches; lower one of the two"
            )
        repeats = batching.accumulation * batching.minibatches * batching.num_iterations
        shares = batching.minibatches, batching.processes
        return cls(images, batching.images_per_round, batching.captions_per_image, repeats, seed, shuffle, *shares)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based) that the next iteration goes through."""
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
    """Tell the sampler inside a prepared DataLoader its epoch, however deep it is wrapped.

    accelerate 1.15 reaches a sampler through one wrapper only. A run of several processes that resumes in the middle of
    an epoch has two (SkipBatchSampler around BatchSamplerShard), the call is lost, and the resumed epoch would follow
    the order of epoch 0. Call this at each epoch's begin, or `GroupSampler.set_epoch` on the sampler itself: before the
    first batch is asked for either is in time.

    Raises:
        TypeError: no sampler with `set_epoch` is found inside.
    """
    layer = dataloader
    while layer is not None:
        if isinstance(layer, GroupSampler):
            layer.set_epoch(epoch)
            return
        inner = getattr(layer, "batch_sampler", None)
        layer = inner if inner is not None else getattr(layer, "sampler", None)
    raise TypeError(f"no GroupSampler inside {type(dataloader).__name__}; its order would not follow the epoch")
