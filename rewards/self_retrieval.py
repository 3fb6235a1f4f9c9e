"""Self-retrieval: does the caption find its own image among similar ones?

measures  log softmax of s · cos(caption, image) over the own image, its bag and random fillers (`logprob`), its exponential
          (`probability`), whether the own image is first in its bag (`recall`), or the cosine by which (`margin`)
range     (-inf, 0]; [0, 1] as a probability or recall, [-2, 2] as a margin; uniform over B images: −ln B
needs     image, with distractors (the bag in the row) or a gallery
cost      one text pass a batch; image embeddings are cached
source    NDLB (arXiv 2409.03025): R_i = log softmax_j(100 · cos(text_i, image_j))[i], there over the mini-batch of 100
          `recall` and `margin` count the bag alone. Several retrievers: the mean of their values
hack      a bag of distinguishing words, true or not: invented details and word salad win against siblings; what the
          retriever can't see (relations, counts) is free to be wrong; what fools one retriever fools another less
guards    hallucination, critique, repetition; several retrievers; evaluation by another one
fails     salad, repeated, hedged, one_false; by the lab's retriever, which reads little more than kinds and colours
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.retrieval import compute_cosines, draw_fillers, is_first, log_probability, margin
from rlcap.types import RewardBatch, Score

RANGES = {
    "logprob": (-math.inf, 0.0),
    "probability": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "margin": (-2.0, 2.0),
}


class SelfRetrieval(Reward):
    """clip: open_clip model name (with `pretrained`), a scorer object, or a list of either. gallery: image paths that
    fillers are drawn from, or a text file of them. candidates: images in the softmax. scale: inverse temperature, the
    model's own by default. The empty caption gets what knowing nothing gives: −ln B, 1/B, 0, a margin of 0.
    """

    name, needs, version = "self_retrieval", frozenset({"image"}), "1"

    def __init__(
        self,
        clip: Any,
        pretrained: str | Sequence[str | None] | None = None,
        form: Literal["logprob", "probability", "recall", "margin"] = "logprob",
        pooling: str = "sentences",
        gallery: Sequence[str] | str | None = None,
        candidates: int = 100,
        scale: float | None = None,
        device: str = "cpu",
        cache_dir: str | None = None,
    ) -> None:
        if form not in RANGES:
            raise ValueError(f"form must be one of {', '.join(RANGES)}, got {form!r}")
        if candidates < 2:
            raise ValueError(f"candidates counts the own image too: at least 2, got {candidates}")
        from rlcap.scorers.clip import load_clip_scorers

        self.retrievers = load_clip_scorers(clip, pretrained, device=device, cache_dir=cache_dir)
        self.form, self.pooling, self.candidates, self.scale = form, pooling, candidates, scale
        lines = Path(gallery).read_text().splitlines() if isinstance(gallery, str) else [str(p) for p in gallery or ()]
        self.gallery = sorted({line for line in lines if line})
        self.range = RANGES[form]

    def images(self, sample_id: str, own: str, bag: Sequence[str]) -> list[str]:
        """Own image, bag, fillers: a function of the row and the gallery alone, hence of no batch and no rank."""
        seen = dict.fromkeys([own, *bag])
        room = max(0, self.candidates - len(seen)) if self.form in ("logprob", "probability") else 0
        return [*seen, *draw_fillers(sample_id, self.gallery, seen, room)]

    def score(self, batch: RewardBatch) -> RewardOutput:
        wanted = [(s.id, s.image, tuple(bag)) for s, bag in zip(batch.samples, batch.distractor_images, strict=True)]
        rows = list(map({one: self.images(*one) for one in set(wanted)}.get, wanted))
        judged = [(r, *compute_cosines(r, batch.captions, rows, self.pooling)) for r in self.retrievers]
        scores, recalls = [], []
        for i, (row, bag) in enumerate(zip(rows, batch.distractor_images, strict=True)):
            mine = [(found[i][~found[i].isnan()], retriever) for retriever, found, *_ in judged]
            if any(found[i][0].isnan() for _, found, *_ in judged) or any(len(values) < 2 for values, _ in mine):
                blind = "neither a bag nor a gallery to choose in" if row[0] else "no image path"
                scores.append(Score.abstain(next((why[row[0]] for *_, why, _ in judged if row[0] in why), blind)))
                continue
            scores.append(Score(sum(self._value(values, retriever) for values, retriever in mine) / len(mine)))
            near = [found[i][: len({row[0], *bag})] for _, found, *_ in judged]
            recalls += [is_first(values[~values.isnan()]) for values in near if values[1:].isfinite().any()]
        metrics = {"text_truncated": max((cut for *_, cut in judged), default=0.0)}
        if recalls:
            metrics["bag_recall_at_1"] = sum(recalls) / len(recalls)
        return RewardOutput(scores, metrics)

    def _value(self, found: torch.Tensor, retriever: Any) -> float:
        if self.form == "recall":
            return float(is_first(found))
        if self.form == "margin":
            return margin(found)
        logprob = log_probability(found, retriever.logit_scale if self.scale is None else self.scale)
        return logprob if self.form == "logprob" else math.exp(logprob)
