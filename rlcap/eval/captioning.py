"""Greedy captions of a data set, one an image, that leave the model and the random state as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from rlcap.io.images import open_image
from rlcap.policy.captioner import unwrap_model
from rlcap.policy.families.registry import make_captioner
from rlcap.types import Sample


def caption_samples(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    *,
    instruction: str,
    max_new_tokens: int,
    batch_size: int = 64,
    progress: bool = False,
) -> list[str]:
    """The captions of N samples, in order, without leading and trailing space.

    Greedy, in eval mode, in the model's own precision; each module's training flag and every global random state are
    afterwards as before, so that a training run goes on bit for bit the same whatever was evaluated in between.

    Args:
        model: of a family that `rlcap.policy.families.registry` knows, a PeftModel too; unwrapped of DDP and the like.
        instruction: what is asked of every image; the image goes before it.
        max_new_tokens: longest caption.
        batch_size: images captioned at once.
        progress: show a bar.

    Raises:
        ConfigError: a family that isn't known.
        ImageError: an image that can't be opened, by name.
    """
    # the base alone: on what is wrapped around it, ZeRO-3 waits for the other processes at each forward
    captioner = make_captioner(unwrap_model(model), processor)
    captions: list[str] = []
    with _random_states_kept(), tqdm(total=len(samples), desc="captions", disable=not progress) as bar:
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            with torch.no_grad():
                prompts = captioner.prepare([open_image(sample.image) for sample in part], instruction)
            written = captioner.generate(prompts, 1, max_new_tokens=max_new_tokens, temperature=0)
            captions += captioner.decode(written.ids)
            bar.update(len(part))
    return captions


@contextmanager
def _random_states_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
