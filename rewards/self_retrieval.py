"""Self-retrieval: does the caption find its own image among similar ones?

measures  log softmax of s · cos(caption, image) over the own image, its bag and random fillers
range     (-inf, 0], or [0, 1] as a probability; uniform over B images: −ln B
needs     image, with distractors (the bag in the row) or a gallery
cost      one text pass a batch; image embeddings are cached
source    NDLB (arXiv 2409.03025): R_i = log softmax_j(100 · cos(text_i, image_j))[i], there over the mini-batch of 100
hack      a bag of distinguishing words, true or not: invented details and word salad win against siblings; what the
          retriever can't see (relations, counts) is free to be wrong
guards    hallucination, critique, repetition; evaluation by another retriever
fails     salad, repeated, hedged, one_false; by the lab's retriever, which reads little more than kinds and colours
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from rlcap.reward.base import Reward
from rlcap.scorers.images import embed_readable
from rlcap.types import RewardBatch, Score


class SelfRetrieval(Reward):
    """clip: open_clip model name (with `pretrained`) or a scorer object. gallery: image paths that fillers are drawn from,
    or a text file of them. candidates: images in the softmax. scale: inverse temperature, the model's own by default.

    The empty caption gets the uniform value (−ln B, 1/B): it is bad, not unjudgeable, and knows nothing.
    """

    name, needs, version = "self_retrieval", frozenset({"image"}), "1"

    def __init__(
        self,
        clip: Any,
        pretrained: str | None = None,
        form: Literal["logprob", "probability"] = "logprob",
        pooling: str = "sentences",
        gallery: Sequence[str] | str | None = None,
        candidates: int = 100,
        scale: float | None = None,
        device: str = "cpu",
        cache_dir: str | None = None,
    ) -> None:
        if form not in ("logprob", "probability"):
            raise ValueError(f"form must be logprob or probability, got {form!r}")
        if candidates < 2:
            raise ValueError(f"candidates counts the own image too: at least 2, got {candidates}")
        if isinstance(clip, str):
            from rlcap.scorers.clip import ClipScorer

            clip = ClipScorer.load(clip, pretrained, device=device, cache_dir=cache_dir)
        self.clip, self.form, self.pooling, self.candidates = clip, form, pooling, candidates
        lines = Path(gallery).read_text().splitlines() if isinstance(gallery, str) else [str(p) for p in gallery or ()]
        self.gallery = sorted({line for line in lines if line})
        self.scale = scale
        self.range = (-float("inf"), 0.0) if form == "logprob" else (0.0, 1.0)

    def images(self, sample_id: str, own: str, bag: Sequence[str]) -> list[str]:
        """Own image, bag, fillers: a function of the row and the gallery alone, hence of no batch and no rank."""
        seen = dict.fromkeys([own, *bag])
        room = max(0, self.candidates - len(seen))
        seed = int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big")
        # Drawing `len(seen)` more than there is room for leaves enough when the draw hits the own image and its bag.
        drawn = random.Random(seed).sample(self.gallery, min(len(self.gallery), room + len(seen)))
        return [*seen, *[path for path in drawn if path not in seen][:room]]

    def score(self, batch: RewardBatch) -> list[Score]:
        rows = [self.images(s.id, s.image, bag) for s, bag in zip(batch.samples, batch.distractor_images, strict=True)]
        images, broken = embed_readable(self.clip.image_embeddings, (path for row in rows for path in row if path))
        texts = self.clip.text_embeddings(list(batch.captions), pooling=self.pooling)
        scale = self.clip.logit_scale if self.scale is None else self.scale
        scores, found = [], []
        for i, (row, bag) in enumerate(zip(rows, batch.distractor_images, strict=True)):
            own, others = row[0], [path for path in row[1:] if path in images]
            if own not in images or not others:
                blind = "neither a bag nor a gallery to choose in" if own else "no image path"
                scores.append(Score.abstain(broken.get(own, blind)))
                continue
            candidates = torch.stack([images[path] for path in (own, *others)]).float()
            own_and_others = candidates @ texts.vectors[i].float().to(candidates.device)
            cosines = torch.zeros_like(own_and_others) if bool(texts.empty[i]) else own_and_others
            logprob = torch.log_softmax(scale * cosines.cpu().double(), 0)[0].item()
            scores.append(Score(logprob if self.form == "logprob" else torch.tensor(logprob).exp().item()))
            if near := [k for k, path in enumerate(others, 1) if path in set(bag)]:
                found.append(bool((cosines[0] > cosines[near]).all()))
        self.metrics = {"text_truncated": float(texts.truncated_fraction)}
        if found:
            self.metrics["bag_recall_at_1"] = sum(found) / len(found)
        return scores
