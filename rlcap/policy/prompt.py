"""What a captioner is asked: the tensors of one prompt, and how several make a batch.

Prompts are made one by one and padded here: a batch is any list of them, in any order, and no processor's
padding side can corrupt it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Prompt:
    """One image, or several, and what is asked of it."""

    tokens: Mapping[str, torch.Tensor]
    """(P,) each: `input_ids`, `attention_mask`, and token types where the family has them."""
    pixels: Mapping[str, torch.Tensor]
    """The processor's other tensors, images along the first dimension; empty where `features` took their place."""
    features: Any = None
    """What the frozen vision side made of the images: nested lists of tensors, or None where some of it is trained."""
    seen: Any = None
    """What a frozen tower gave to a projector that is trained (`rlcap.policy.shared_prefix.vision_encoder`), nested likewise; else None."""


def pad(rows: Sequence[torch.Tensor], value: int, side: str = "left") -> torch.Tensor:
    """Vectors of lengths P₁ … P_B → (B, max P), `value` before the shorter ones, or after them (`side="right"`)."""
    longest = max(len(row) for row in rows)
    missing = [longest - len(row) for row in rows]
    return torch.stack(
        [F.pad(row, (n, 0) if side == "left" else (0, n), value=value) for row, n in zip(rows, missing, strict=True)]
    )


def stack_pixels(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors (n₁, …), (n₂, …) → (n₁ + n₂ + …, …), zeros at the end of dimensions that differ.

    Zero images and patches are what the models themselves leave out.
    """
    sizes = [max(value.shape[d] for value in values) for d in range(1, values[0].dim())]
    padded = []
    for value in values:
        missing = [size - have for size, have in zip(sizes, value.shape[1:], strict=True)]
        padded.append(F.pad(value, [x for m in reversed(missing) for x in (0, m)]) if any(missing) else value)
    return torch.cat(padded)


def join_features(values: Sequence[Any]) -> Any:
    """The features of several prompts as one batch's.

    A tensor has images along its first dimension; a list of tensors has one an image; a list of lists, one a layer.
    """
    first = values[0]
    if torch.is_tensor(first):
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {name: join_features([value[name] for value in values]) for name in first}
    if torch.is_tensor(first[0]):
        return [image for value in values for image in value]
    return [join_features(layer) for layer in zip(*values, strict=True)]


def join_tokens(prompts: Sequence[Prompt], pad_id: int, side: str = "left") -> dict[str, torch.Tensor]:
    """(B, P) each, padded: ids with `pad_id`, masks and types with 0.

    On the left where captions follow; on the right for an encoder, whose positions count from the first token.
    """
    return {
        name: pad([p.tokens[name] for p in prompts], pad_id if name == "input_ids" else 0, side)
        for name in prompts[0].tokens
    }


def join_pixels(prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """The processor's image tensors of a batch."""
    return {name: stack_pixels([p.pixels[name] for p in prompts]) for name in prompts[0].pixels}


def join_vision_states(prompts: Sequence[Prompt]) -> Any:
    """What a frozen tower gave for a batch; None where it has to run."""
    return None if prompts[0].seen is None else join_features([p.seen for p in prompts])
