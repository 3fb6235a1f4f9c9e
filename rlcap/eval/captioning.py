"""Greedy captions of a data set, one an image, that leave the model and the random state as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from rlcap.data.images import open_image
from rlcap.types import Sample


def caption_samples(
    model: Any,
    processor: Any,
    samples: Sequence[Sample],
    *,
    instruction: str,
    max_new_tokens: int,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> list[str]:
    """The captions of N samples, in order, without leading and trailing space.

    Greedy, in eval mode, in the model's own precision; each module's training flag and every global random state are
    afterwards as before, so that a training run goes on bit for bit the same whatever was evaluated in between.

    Args:
        model: anything that `generate`s from an image and a prompt, a PeftModel too; unwrapped of DDP and the like.
        processor: with a chat template; its tokenizer pads on the left meanwhile.
        instruction: what is asked of every image; the image goes before it.
        max_new_tokens: longest caption.
        device: where the inputs go; by default where the model's weights are.
        progress: show a bar.

    Raises:
        ValueError: the processor has no chat template, or padded on the right all the same.
        ImageError: an image that can't be opened, by name.
    """
    if not getattr(processor, "chat_template", None):
        raise ValueError(
            f"{type(processor).__name__} has no chat template, and captions without one are not what was trained; "
            "set processor.chat_template, or use an instruction-tuned captioner"
        )
    content = [{"type": "image"}, {"type": "text", "text": instruction}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    device = device or next(model.parameters()).device
    captions: list[str] = []
    with _as_for_evaluation(model, processor), tqdm(total=len(samples), desc="captions", disable=not progress) as bar:
        for start in range(0, len(samples), batch_size):
            part = samples[start : start + batch_size]
            captions += _caption_batch(model, processor, prompt, [s.image for s in part], max_new_tokens, device)
            bar.update(len(part))
    return captions


def _caption_batch(
    model: Any, processor: Any, prompt: str, paths: Sequence[str], max_new_tokens: int, device: str | torch.device
) -> list[str]:
    images = [[open_image(path)] for path in paths]
    inputs = processor(text=[prompt] * len(paths), images=images, padding=True, return_tensors="pt").to(device)
    if not inputs["attention_mask"][:, -1].all():
        raise ValueError(
            f"{type(processor).__name__} padded on the right, and generation would go on from padding; "
            "set processor.tokenizer.padding_side = 'left'"
        )
    for name, value in inputs.items():
        if torch.is_tensor(value) and value.is_floating_point():
            inputs[name] = value.to(model.dtype)
    # sampling options that the model may carry are named, or generate warns that greedy decoding ignores them; one process
    # captions, with whole weights: under ZeRO-3 generate would otherwise wait for the others after every token
    tokens = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, use_cache=True,
        temperature=None, top_p=None, top_k=None, synced_gpus=False,
    )  # fmt: skip
    fresh = tokens[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(fresh, skip_special_tokens=True)]


@contextmanager
def _as_for_evaluation(model: Any, processor: Any) -> Iterator[None]:
    """Eval mode, no gradients, left padding; afterwards flags, padding side and random states are what they were."""
    flags = [(module, module.training) for module in model.modules()]
    tokenizer = getattr(processor, "tokenizer", processor)
    side = tokenizer.padding_side
    states = random.getstate(), np.random.get_state()
    try:
        model.eval()
        tokenizer.padding_side = "left"
        # not inference_mode: what a model caches while it generates could not take part in training afterwards
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        # one by one: a part that was frozen in eval mode must not come back in training mode
        for module, training in flags:
            module.training = training
        tokenizer.padding_side = side
        random.setstate(states[0])
        np.random.set_state(states[1])
