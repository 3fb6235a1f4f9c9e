"""Image loop: do texts similar to the caption belong to images similar to its image?

measures  GRC + β · QIR over the K images whose texts are nearest to the caption. GRC = ‖mean of their unit vectors‖:
          how much they agree. QIR = Σ_r 2^−(r−1) · cos(own image, image of rank r): how close they are to the own image
range     [-2, 3] at β = 1; in general [-2β, 1 + 2β]
needs     image, and a gallery of captioned images
cost      one sentence vector per caption; the gallery's texts are encoded once, images come from the cache
source    CIM (arXiv 2603.01696): SBERT over a captioned gallery, OpenCLIP on the images. No text goes through CLIP, so
          its 77 tokens are no limit. The paper does not state K and β; here they are 5 and 1
hack      the most common caption of the gallery has the most coherent neighbours (GRC); what the sentence encoder
          ignores: negations, counts, who does what
guards    self-retrieval among similar images, hallucination; a large gallery. The own image is left out of it
fails     one_word, cut_off, repeated, word_shuffle, echo, other_image, generic, one_false, one_missing, rambling, foreign,
          injection, praise, hedged; measured with the lab's NLI encoder instead of a sentence encoder. It orders 66 %
          of pairs as truth does
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rlcap.errors import ConfigError
from rlcap.io.images import embed_readable
from rlcap.io.text import read_rows
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


def coherence(vectors: torch.Tensor) -> float:
    """Return GRC of (K, D) unit vectors, the norm of their mean; two orthogonal vectors give .7071."""
    return float(vectors.double().mean(0).norm())


def nearness(own: torch.Tensor, vectors: torch.Tensor) -> float:
    """Return QIR: the cosines of (K, D) unit vectors with the own (D,) vector, weighted by 1, .5, .25, and so on."""
    cosines = vectors.double() @ own.double()
    return float((cosines * 0.5 ** torch.arange(len(vectors), dtype=torch.double)).sum())


def _find_problem(row: Any) -> str | None:
    """Return the problem of a row of the captioned gallery, or None for a good row."""
    if isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("image", "caption")):
        return None
    return f"a row needs the texts image and caption, got {row!s:.80}"


class ImageLoop(Reward):
    """The image loop as a reward. The empty caption gets the lowest value.

    Args:
        encoder: folder or hub name of a sentence encoder, or an object with `vectors`.
        clip: an open_clip model name (with `pretrained`), or a scorer object.
        pairs: the captioned gallery: a .jsonl file of {image, caption}, or a list of (image path, caption).
        pretrained: the tag of CLIP's weights.
        neighbours: K, the number of nearest images.
        beta: β, at least 0.
        device: where the models run.
        cache_dir: folder of the cached image embeddings.

    Raises:
        ConfigError: for a negative beta, no neighbours, or a gallery that has no more images than neighbours.
    """

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
            form = "write an object with image and caption per line"
            rows = read_rows(Path(pairs), "image and caption pairs", form, _find_problem, ConfigError)
            pairs = [(row["image"], row["caption"]) for row in rows]
        if neighbours < 1 or beta < 0 or len({image for image, _ in pairs}) <= neighbours:
            raise ConfigError(
                "image_loop needs beta >= 0, neighbours >= 1 and more gallery images than neighbours, got beta "
                f"{beta} and {neighbours} neighbours"
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
        """Score a batch of captions. A row whose image can't be read abstains."""
        images, errors = embed_readable(
            self.clip.image_embeddings, [*self.paths, *(s.image for s in batch.samples if s.image)]
        )
        similarities = self.encoder.vectors(list(batch.captions)) @ self.texts.T
        scores = []
        for caption, sample, similarity_row in zip(batch.captions, batch.samples, similarities, strict=True):
            order = dict.fromkeys(self.paths[i] for i in similarity_row.argsort(descending=True, stable=True).tolist())
            neighbour_vectors = [images[path].cpu() for path in order if path in images and path != sample.image][
                : self.neighbours
            ]
            if sample.image not in images or len(neighbour_vectors) < self.neighbours:
                scores.append(
                    Score.abstain(
                        errors.get(
                            sample.image,
                            "no image path" if not sample.image else "the gallery has too few other images",
                        )
                    )
                )
            elif not caption:
                scores.append(Score(self.range[0]))
            else:
                own, vectors = images[sample.image].cpu(), torch.stack(neighbour_vectors)
                scores.append(Score(coherence(vectors) + self.beta * nearness(own, vectors)))
        return RewardOutput(scores)
