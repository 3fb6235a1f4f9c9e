"""Captions of a data set, one greedy caption per image or several sampled ones, without side effects on the model or the random states."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from rlcap.data.control import Instruction
from rlcap.data.sampler import sampling_uniforms
from rlcap.io.images import open_image
from rlcap.policy.captioner import unwrap_model
from rlcap.policy.families.registry import make_captioner
from rlcap.types import Sample


def caption_samples(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    *,
    instruction: str | Instruction,
    max_new_tokens: int,
    batch_size: int = 64,
    progress: bool = False,
) -> list[str]:
    """Return the captions of N samples, in order, without leading and trailing space.

    Decoding is greedy, in evaluation mode and in the precision of the model. Afterwards each module has the same
    training flag and every global random state is the same as before. So an evaluation in between does not change a
    training run by a single bit.

    Args:
        model: A model of a family that `rlcap.policy.families.registry` supports, also as a PeftModel, but not inside a
            wrapper such as DDP.
        processor: The processor of the model.
        samples: The N samples.
        instruction: The instruction that all samples share; the control of a sample adds its words.
        max_new_tokens: The maximum length of a caption in tokens.
        batch_size: Images that are captioned at once.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: The family of the model is unknown, or can't read the control of a sample.
        ImageError: An image can't be opened; the message names it.
    """
    # Take the base model only: inside a ZeRO-3 wrapper each forward pass waits for the other processes.
    captioner = make_captioner(unwrap_model(model), processor)
    captions: list[str] = []
    with _preserve_random_states(), tqdm(total=len(samples), desc="captions", disable=not progress) as bar:
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            instructions = captioner.instruct(instruction, [sample.control for sample in batch])
            with torch.no_grad():
                prompts = captioner.prepare([open_image(sample.image) for sample in batch], instructions)
            generated = captioner.generate(prompts, 1, max_new_tokens=max_new_tokens, temperature=0)
            captions += captioner.decode(generated.ids)
            bar.update(len(batch))
    return captions


def sample_captions(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    captions: int,
    *,
    instruction: str | Instruction,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[list[str]]:
    """Return several sampled captions of each of N samples.

    The random numbers depend on a sample's id and the seed alone, so that a run that goes on after a kill draws the same captions.

    Args:
        model: As for `caption_samples`.
        processor: The processor of the model.
        samples: The N samples, which form one batch.
        captions: Number of captions of each sample.
        instruction: The instruction that all samples share.
        max_new_tokens: The maximum length of a caption in tokens.
        temperature: Divisor of the logits, above 0.
        top_p: Probability of the nucleus that tokens are sampled from.
        seed: Seed of the random numbers.

    Raises:
        ConfigError: As for `caption_samples`.
        ImageError: An image can't be opened; the message names it.
    """
    captioner = make_captioner(unwrap_model(model), processor)
    instructions = captioner.instruct(instruction, [sample.control for sample in samples])
    uniforms = np.concatenate([sampling_uniforms(seed, 0, sample.id, captions, max_new_tokens) for sample in samples])
    with _preserve_random_states(), torch.no_grad():
        prompts = captioner.prepare([open_image(sample.image) for sample in samples], instructions)
        generated = captioner.generate(
            prompts,
            captions,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            sampling_uniforms=torch.from_numpy(uniforms),
        )
    texts = captioner.decode(generated.ids)
    return [texts[start : start + captions] for start in range(0, len(texts), captions)]


@contextmanager
def _preserve_random_states() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
