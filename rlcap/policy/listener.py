"""A frozen captioner as a listener: how likely does each image make the tokens of a caption?

A speaker and a listener are one model read in two directions (rational speech acts: Goodman and Frank 2016; Andreas and Klein
2016, who choose captions by the log-probability that a listener finds the image). What an image makes likelier than other images do is about
this image; what all images make equally likely is habit.

The captions of a group share the pass over an image, and the images of a batch share a forward pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcap.io.images import open_image
from rlcap.policy.adapters import using_adapter
from rlcap.policy.captioner import Captioner, evaluation_mode, unwrap_model
from rlcap.policy.prompt import Prompt

CACHED_PROMPTS = 512
"""Images whose encoded prompts are kept, those used last."""


@dataclass(frozen=True, slots=True)
class HeardCaption:
    """What a listener makes of a caption."""

    log_probs: Tensor
    """(J, T) float32 log-probabilities, in nats, of the caption's T tokens given each of J images, the own image first."""
    offsets: list[tuple[int, int]]
    """T ranges of characters of the caption; empty for the end token."""


class Listener:
    """A frozen captioner as a listener.

    Args:
        captioner: the captioner. It may be the one that is trained, if its base is frozen.
        instruction: the instruction that the captions answer.
        adapter: name of the adapter that takes part; None for the base alone.
        batch_size: captions in one forward pass.
    """

    def __init__(
        self, captioner: Captioner, instruction: str, adapter: str | None = None, batch_size: int = 64
    ) -> None:
        self.captioner, self.instruction, self.adapter = captioner, instruction, adapter
        self.batch_size = batch_size
        self.passes = 0
        """Forward passes so far; each holds up to `batch_size` captions."""
        self._prompts: OrderedDict[str, Prompt] = OrderedDict()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        inner = self.captioner.model
        with torch.no_grad(), evaluation_mode(inner), using_adapter(unwrap_model(inner), self.adapter):
            yield

    def prompts(self, paths: Sequence[str]) -> list[Prompt]:
        """Return the encoded prompts of images, each encoded once while it is in the cache.

        Raises:
            ImageError: an image can't be read.
        """
        unique = list(dict.fromkeys(paths))
        missing = [path for path in unique if path not in self._prompts]
        with self._frozen() if missing else nullcontext():  # entering it visits every module of the model
            for path in missing:
                self._prompts[path] = self.captioner.prepare([open_image(path)], self.instruction)[0]
        prompts = [self._prompts[path] for path in paths]
        for path in unique:
            self._prompts.move_to_end(path)
        while len(self._prompts) > CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return prompts

    def hear(self, captions: Sequence[str], images: Sequence[Sequence[str]]) -> list[HeardCaption]:
        """Return what the listener makes of N captions.

        Args:
            captions: N captions; those of an image should be adjacent, since they share passes.
            images: for each caption the paths of its images, the own image first, at least one.

        Raises:
            ImageError: an image can't be read.
        """
        tokens = [self.captioner.encode_with_offsets(caption, self.instruction) for caption in captions]
        results = [torch.zeros(len(row), len(own)) for row, (own, _) in zip(images, tokens, strict=True)]
        # One job per group of captions with the same images, and image; jobs of equal size share a pass.
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, row in enumerate(images):
            groups.setdefault(tuple(row), []).append(i)
        by_size: dict[int, list[tuple[str, int, list[int]]]] = {}
        for row, members in groups.items():
            for start in range(0, len(members), self.batch_size):
                part = members[start : start + self.batch_size]
                by_size.setdefault(len(part), []).extend((path, j, part) for j, path in enumerate(row))
        for size, jobs in by_size.items():
            jobs.sort(key=lambda job: -max(len(tokens[i][0]) for i in job[2]))  # similar lengths waste no padding
            count = max(1, self.batch_size // size)
            for start in range(0, len(jobs), count):
                self._run(jobs[start : start + count], [own for own, _ in tokens], results)
        return [HeardCaption(table, offsets) for table, (_, offsets) in zip(results, tokens, strict=True)]

    def _run(self, jobs: Sequence[tuple[str, int, list[int]]], tokens: Sequence[list[int]], out: list[Tensor]) -> None:
        """Compute the log-probabilities of one pass, and write them to the tables of their captions."""
        rows = [i for _, _, members in jobs for i in members]
        longest = max(len(tokens[i]) for i in rows)
        pad = self.captioner.pad_id
        ids = torch.tensor([tokens[i] + [pad] * (longest - len(tokens[i])) for i in rows])
        mask = torch.tensor([[1] * len(tokens[i]) + [0] * (longest - len(tokens[i])) for i in rows])
        prompts = self.prompts([path for path, _, _ in jobs])
        device = next(self.captioner.base.parameters()).device
        with self._frozen():
            found = self.captioner.log_probs(prompts, ids.to(device), mask.to(device)).log_probs.float().cpu()
        self.passes += 1
        row = 0
        for _, j, members in jobs:
            for i in members:
                out[i][j] = found[row, : len(tokens[i])]
                row += 1


def has_frozen_base(model: Any) -> bool:
    """Return whether all trained parameters of `model` belong to its adapters, so that its base can listen while it is trained."""
    names = [f".{adapter}" for adapter in getattr(model, "peft_config", ())]
    return bool(names) and all(
        any(name in parameter for name in names) for parameter, value in model.named_parameters() if value.requires_grad
    )
