"""Image loop: do texts like the caption stand beside images like its image?

measures  GRC + β · QIR over the K images whose texts are nearest to the caption: GRC = ‖mean of their unit vectors‖, how
          much they agree; QIR = Σ_r 2^−(r−1) · cos(own image, image of rank r), how near they are
range     [-2, 3] at β = 1; in general [-2β, 1 + 2β]
needs     image, and a gallery of captioned images
cost      one sentence vector a caption; the gallery's texts once, images from the cache
source    CIM (arXiv 2603.01696): SBERT over a captioned gallery, OpenCLIP on the images; no text meets CLIP, so its 77 tokens
          are no limit. There K and β are not told; here 5 and 1
hack      the gallery's commonest caption has the most coherent neighbours (GRC); what the sentence encoder reads past:
          negations, counts, who does what
guards    self-retrieval among similar images, hallucination; the larger the gallery the better. The own image is left out
fails     one_word, cut_off, repeated, salad, echo, other_image, generic, one_false, one_missing, rambling, foreign, injection,
          praise, hedged; with the lab's NLI encoder for want of a sentence encoder, .66 of pairs as truth has them
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlcap.errors import ConfigError
from rlcap.io.images import embed_readable
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


def coherence(vectors: torch.Tensor) -> float:
    """GRC of (K, D) unit vectors: two orthogonal ones → .7071."""
    return float(vectors.double().mean(0).norm())


def nearness(own: torch.Tensor, vectors: torch.Tensor) -> float:
    """QIR: cosines of (K, D) unit vectors with the own (D,), weighed 1, .5, .25, …"""
    cosines = vectors.double() @ own.double()
    return float((cosines * 0.5 ** torch.arange(len(vectors), dtype=torch.double)).sum())


class ImageLoop(Reward):
    """encoder: a sentence encoder's folder or hub name, or an object with `vectors`. clip, pretrained: as for SelfRetrieval.
    pairs: the captioned gallery, a .jsonl of {image, caption}, or a list of (image path, caption). neighbours: K. The empty
    caption gets the lowest value."""

    name, needs, version = "image_loop", frozenset({"image"}), "1"

    def __init__(
        self,
        encoder: Any,
        clip: Any,
        pairs: str | Sequence[Sequence[str]],
        pretrained: str | None = None,
        neighbours: int = 5,
        beta: float = 1.0,
        device: str = "cpu",
        cache_dir: str | None = None,
    ) -> None:
        if isinstance(pairs, str):
            lines = (line for line in Path(pairs).read_text(encoding="utf-8").splitlines() if line.strip())
            pairs = [(row["image"], row["caption"]) for row in map(json.loads, lines)]
        if neighbours < 1 or beta < 0 or len({image for image, _ in pairs}) <= neighbours:
            raise ConfigError(
                f"image_loop needs beta >= 0 and more gallery images than neighbours, got {beta}, {neighbours}"
            )
        if isinstance(encoder, str):
            from rlcap.scorers.sentence_vectors import SentenceEncoder

            encoder = SentenceEncoder.load(encoder, device)
        from rlcap.scorers.clip import load_clip_scorers

        (self.clip,) = load_clip_scorers(clip, pretrained, device=device, cache_dir=cache_dir)
        self.encoder, self.paths, self.neighbours, self.beta = encoder, [image for image, _ in pairs], neighbours, beta
        self.texts = encoder.vectors([caption for _, caption in pairs])
        self.range = (-2 * beta, 1 + 2 * beta)

    def score(self, batch: RewardBatch) -> RewardOutput:
        images, broken = embed_readable(
            self.clip.image_embeddings, [*self.paths, *(s.image for s in batch.samples if s.image)]
        )
        near = self.encoder.vectors(list(batch.captions)) @ self.texts.T
        scores = []
        for caption, sample, similar in zip(batch.captions, batch.samples, near, strict=True):
            order = dict.fromkeys(self.paths[i] for i in similar.argsort(descending=True, stable=True).tolist())
            found = [images[path].cpu() for path in order if path in images and path != sample.image][: self.neighbours]
            if sample.image not in images or len(found) < self.neighbours:
                scores.append(
                    Score.abstain(
                        broken.get(sample.image, "no image path" if not sample.image else "too small a gallery")
                    )
                )
            elif not caption.strip():
                scores.append(Score(self.range[0]))
            else:
                own, vectors = images[sample.image].cpu(), torch.stack(found)
                scores.append(Score(coherence(vectors) + self.beta * nearness(own, vectors)))
        return RewardOutput(scores)
