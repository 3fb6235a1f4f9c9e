"""The tensors of one prompt, and functions that join several prompts into a batch.

Prompts are made one by one and padded here. So a batch can be any list of prompts in any order, and it does not depend
on the padding side of a processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Prompt:
    """One or several images with the instruction for them."""

    tokens: Mapping[str, torch.Tensor]
    """Tensors of shape (P,): `input_ids`, `attention_mask`, and token types where the model family has them."""
    pixels: Mapping[str, torch.Tensor]
    """The processor's other tensors, images along the first dimension; empty where `features` replaces them."""
    features: Any = None
    """Output of a completely frozen vision side, as nested lists of tensors; None where a part of it is trained."""
    vision_states: Any = None
    """Output of a frozen vision encoder before a trained projector (`rlcap.policy.shared_prefix.vision_encoder`).

    The tensors are nested as in `features`; None in all other cases.
    """


def pad(rows: Sequence[torch.Tensor], value: int, side: str = "left") -> torch.Tensor:
    """Pad vectors of lengths P₁ … P_B with `value` on one side: → (B, max P)."""
    longest = max(len(row) for row in rows)
    missing = [longest - len(row) for row in rows]
    return torch.stack(
        [
            functional.pad(row, (n, 0) if side == "left" else (0, n), value=value)
            for row, n in zip(rows, missing, strict=True)
        ]
    )


def stack_pixels(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate tensors (n₁, …), (n₂, …) to (n₁ + n₂ + …, …), with zeros at the end of dimensions that differ.

    The models themselves ignore images and patches of zeros.
    """
    sizes = [max(value.shape[d] for value in values) for d in range(1, values[0].dim())]
    padded = []
    for value in values:
        missing = [size - length for size, length in zip(sizes, value.shape[1:], strict=True)]
        padded.append(functional.pad(value, [x for m in reversed(missing) for x in (0, m)]) if any(missing) else value)
    return torch.cat(padded)


def join_features(values: Sequence[Any]) -> Any:
    """Join the features of several prompts into those of one batch.

    A tensor has images along its first dimension. A list of tensors has one tensor per image, and a list of lists has
    one list per layer.

    Raises:
        ValueError: tensors differ in another dimension than the first.
    """
    first = values[0]
    if torch.is_tensor(first):
        if len({value.shape[1:] for value in values}) > 1:
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            raise ValueError(
                f"vision features of the shapes {shapes} can't be joined along the first dimension: images of different sizes give grids of "
                "different sizes. Override `join_vision_states` in the family's captioner (docs/captioners.md, Add a family)"
            )
        return torch.cat(list(values))
    if isinstance(first, Mapping):
        return {name: join_features([value[name] for value in values]) for name in first}
    if torch.is_tensor(first[0]):
        return [image for value in values for image in value]
    return [join_features(layer) for layer in zip(*values, strict=True)]


def join_tokens(prompts: Sequence[Prompt], pad_id: int, side: str = "left") -> dict[str, torch.Tensor]:
    """Pad the tokens of B prompts to (B, P) each: ids with `pad_id`, masks and types with 0.

    Pad on the left where captions follow, and on the right for an encoder, whose positions count from the first token.
    """
    return {
        name: pad([p.tokens[name] for p in prompts], pad_id if name == "input_ids" else 0, side)
        for name in prompts[0].tokens
    }


def join_pixels(prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Join the processor's image tensors of several prompts."""
    return {name: stack_pixels([p.pixels[name] for p in prompts]) for name in prompts[0].pixels}


def join_vision_states(prompts: Sequence[Prompt]) -> Any:
    """Join the vision states of several prompts; None where the vision encoder has to run."""
    return None if prompts[0].vision_states is None else join_features([p.vision_states for p in prompts])
