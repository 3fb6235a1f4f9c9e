"""A text among images, its own image first: cosines by a retriever, and what they say."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcap.io.images import embed_readable


def compute_cosines(
    retriever: Any, texts: Sequence[str], rows: Sequence[Sequence[str]], pooling: str = "sentences"
) -> tuple[list[Tensor], Mapping[str, str], float]:
    """Each text with the images of its row → cosines, NaN for an image that can't be read and 0 for an empty text; the
    reasons why images can't be read, by path; the share of sentences that were cut.

    retriever: as `rlcap.scorers.clip.ClipScorer`. Each image and each sentence is embedded once.
    """
    images, broken = embed_readable(retriever.image_embeddings, (path for row in rows for path in row if path))
    embedded = retriever.text_embeddings(list(texts), pooling=pooling)
    found = []
    stacked: dict[tuple[str, ...], tuple[list[int], Tensor]] = {}  # the captions of an image choose among the same
    for i, row in enumerate(map(tuple, rows)):
        if row not in stacked:
            known = [k for k, path in enumerate(row) if path in images]
            stacked[row] = known, torch.stack([images[row[k]] for k in known]).float() if known else torch.empty(0)
        known, candidates = stacked[row]
        values = torch.full((len(row),), torch.nan)
        if known:
            near = (candidates @ embedded.vectors[i].float().to(candidates.device)).cpu()
            values[known] = torch.zeros_like(near) if bool(embedded.empty[i]) else near
        found.append(values)
    return found, broken, float(embedded.truncated_fraction)


def draw_fillers(id: str, gallery: Sequence[str], seen: Collection[str], room: int) -> list[str]:
    """Up to `room` images of the gallery that are not among `seen`: a function of the id and the gallery alone."""
    seed = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
    # Drawing `len(seen)` more than there is room for leaves enough when the draw hits some that were seen.
    drawn = random.Random(seed).sample(gallery, min(len(gallery), room + len(seen)))
    return [path for path in drawn if path not in seen][:room]


def log_probability(cosines: Tensor, scale: float) -> float:
    """(B,) cosines, own first → log softmax of scale · cosine at the own image, in nats; −ln B where all are equal.

    Two images at .30 and .29 with scale 100: −ln(1 + e⁻¹) = −.3133.
    """
    return torch.log_softmax(scale * cosines.double(), 0)[0].item()


def is_first(cosines: Tensor) -> bool:
    """Whether the own image is strictly nearer than every other one: recall@1 of this one text."""
    return bool((cosines[0] > cosines[1:]).all())


def margin(cosines: Tensor) -> float:
    """Own cosine less the highest of the others, in [-2, 2]."""
    return float(cosines[0].double() - cosines[1:].double().max())
