"""Retrieval of a text's own image among other images: cosines by a retriever, and scores computed from them."""

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
    """Compute the cosines of each text with the images of its row. Each image and each sentence is embedded once.

    Args:
        retriever: an object with the interface of `rlcap.scorers.clip.ClipScorer`.
        texts: N texts.
        rows: for each text the paths of its images.
        pooling: as for `ClipScorer.text_embeddings`.

    Returns:
        The cosines of each text, NaN for an image that can't be read and 0 for an empty text; the reasons why images
        can't be read, by path; and the share of texts that were cut.
    """
    images, broken = embed_readable(retriever.image_embeddings, (path for row in rows for path in row if path))
    embedded = retriever.text_embeddings(list(texts), pooling=pooling)
    cosines = []
    stacked: dict[tuple[str, ...], tuple[list[int], Tensor]] = {}  # the captions of an image share their candidates
    for i, row in enumerate(map(tuple, rows)):
        if row not in stacked:
            readable = [k for k, path in enumerate(row) if path in images]
            stacked[row] = (
                readable,
                torch.stack([images[row[k]] for k in readable]).float() if readable else torch.empty(0),
            )
        readable, candidates = stacked[row]
        values = torch.full((len(row),), torch.nan)
        if readable:
            similarity = (candidates @ embedded.vectors[i].float().to(candidates.device)).cpu()
            values[readable] = torch.zeros_like(similarity) if bool(embedded.empty[i]) else similarity
        cosines.append(values)
    return cosines, broken, float(embedded.truncated_fraction)


def draw_fillers(id: str, gallery: Sequence[str], seen: Collection[str], room: int) -> list[str]:
    """Draw up to `room` images of the gallery that are not in `seen`.

    The draw depends on the id and the gallery alone, so that it is the same in each epoch and process.
    """
    seed = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
    # The draw takes `len(seen)` more than needed, so that enough remain once those in `seen` are removed.
    drawn = random.Random(seed).sample(gallery, min(len(gallery), room + len(seen)))
    return [path for path in drawn if path not in seen][:room]


def log_probability(cosines: Tensor, scale: float) -> float:
    """Return the log-probability of the own image under a softmax of scale · cosine, in nats.

    It is −ln B where all B cosines are equal. Two images at .30 and .29 with scale 100 give −ln(1 + e⁻¹) = −.3133.

    Args:
        cosines: (B,) cosines, that of the own image first.
        scale: inverse temperature of the softmax.
    """
    return torch.log_softmax(scale * cosines.double(), 0)[0].item()


def is_first(cosines: Tensor) -> bool:
    """Return whether the own image has a strictly higher cosine than every other one: recall@1 of a single text."""
    return bool((cosines[0] > cosines[1:]).all())


def margin(cosines: Tensor) -> float:
    """Return the own cosine minus the highest of the others, in [-2, 2]."""
    return float(cosines[0].double() - cosines[1:].double().max())
