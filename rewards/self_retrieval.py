"""Self-retrieval: does the caption find its own image among similar ones?

measures  log softmax of s · cos(caption, image) over the own image, its bag and random fillers (`logprob`), its
          exponential (`probability`), whether the own image is first in its bag (`recall`), or by which cosine
          difference it is (`margin`)
range     (-inf, 0]; [0, 1] as a probability or recall, [-2, 2] as a margin; a uniform guess over B images gives −ln B
needs     image, with distractors (the bag in the row) or a gallery
cost      one text pass per batch; image embeddings are cached
source    NDLB (arXiv 2409.03025): R_i = log softmax_j(100 · cos(text_i, image_j))[i], there over the mini-batch of 100.
          `recall` and `margin` use the bag alone. With several retrievers the reward is the mean of their values
hack      distinguishing words, true or not: invented details and word shuffles win against siblings. What the retriever
          can't see (relations, counts) may be wrong at no cost. A caption that deceives one retriever deceives another
          one less
guards    hallucination, critique, repetition; several retrievers; evaluation with another retriever
fails     word_shuffle, repeated, hedged, one_false; measured with the lab's retriever, which reads little more than kinds and
          colours
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from rlcap.io.text import read_lines
from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.retrieval import compute_cosines, draw_fillers, is_first, log_probability, margin
from rlcap.scorers.text.sentences import sentence_spans
from rlcap.types import RewardBatch, Score, Span

RANGES = {
    "logprob": (-math.inf, 0.0),
    "probability": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "margin": (-2.0, 2.0),
}


class SelfRetrieval(Reward):
    """Self-retrieval as a reward.

    The empty caption gets the value of a retriever that knows nothing: −ln B, 1/B, a recall of 0, or a margin of 0.

    Args:
        clip: an open_clip model name (with `pretrained`), a scorer object, or a list of either.
        pretrained: the tag of the weights, or one for each model.
        form: logprob, probability, recall or margin.
        pooling: `sentences` or `whole`.
        gallery: image paths that fillers are drawn from, or a text file with one path per line.
        candidates: number of images in the softmax, the own image among them; at least 2.
        scale: inverse temperature s; by default the model's own.
        device: where the models run.
        cache_dir: folder of the cached image embeddings.
        by_sentence: whether each sentence gets a span with its marginal contribution, the value of the caption less its value without
            the sentence. It costs one more text pass per sentence.
    """

    name, needs, version = "self_retrieval", frozenset({"image"}), "1"

    def __init__(
        self,
        clip: Any,
        pretrained: str | list[str | None] | None = None,
        form: Literal["logprob", "probability", "recall", "margin"] = "logprob",
        pooling: str = "sentences",
        gallery: Sequence[str] | str | None = None,
        candidates: int = 100,
        scale: float | None = None,
        device: str = "cpu",
        cache_dir: str | None = None,
        by_sentence: bool = False,
    ) -> None:
        if form not in RANGES:
            raise ValueError(f"form must be one of {', '.join(RANGES)}, got {form!r}")
        if candidates < 2:
            raise ValueError(f"candidates counts the own image too: at least 2, got {candidates}")
        from rlcap.scorers.clip import load_clip_scorers

        self.retrievers = load_clip_scorers(clip, pretrained, device=device, cache_dir=cache_dir)
        self.form, self.pooling, self.candidates, self.scale = form, pooling, candidates, scale
        self.by_sentence = by_sentence
        lines = read_lines(gallery, "gallery") if isinstance(gallery, str) else [str(p) for p in gallery or ()]
        self.gallery = sorted({line for line in lines if line})
        self.range = RANGES[form]

    def images(self, sample_id: str, own: str, bag: Sequence[str]) -> list[str]:
        """Return the own image, its bag and the fillers.

        The list depends on the row and the gallery alone, and therefore on no batch and no rank.
        """
        seen = dict.fromkeys([own, *bag])
        room = max(0, self.candidates - len(seen)) if self.form in ("logprob", "probability") else 0
        return [*seen, *draw_fillers(sample_id, self.gallery, seen, room)]

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions, and log the recall at 1 in the bag.

        A row without an image, or without other images to compare it with, abstains.
        """
        requests = [(s.id, s.image, tuple(bag)) for s, bag in zip(batch.samples, batch.distractor_images, strict=True)]
        images = {one: self.images(*one) for one in set(requests)}
        rows = [images[one] for one in requests]
        results = [(r, *compute_cosines(r, batch.captions, rows, self.pooling)) for r in self.retrievers]
        scores, recalls = [], []
        for i, (row, bag) in enumerate(zip(rows, batch.distractor_images, strict=True)):
            own_values = [(cosines[i][~cosines[i].isnan()], retriever) for retriever, cosines, *_ in results]
            if any(cosines[i][0].isnan() for _, cosines, *_ in results) or any(
                len(values) < 2 for values, _ in own_values
            ):
                default_reason = "neither a bag nor a gallery to choose in" if row[0] else "no image path"
                scores.append(
                    Score.abstain(
                        next((reasons[row[0]] for *_, reasons, _ in results if row[0] in reasons), default_reason)
                    )
                )
                continue
            scores.append(Score(self._mean_value(own_values)))
            bag_cosines = [cosines[i][: len({row[0], *bag})] for _, cosines, *_ in results]
            recalls += [is_first(values[~values.isnan()]) for values in bag_cosines if values[1:].isfinite().any()]
        metrics = {"text_truncated": max((truncated for *_, truncated in results), default=0.0)}
        if recalls:
            metrics["bag_recall_at_1"] = sum(recalls) / len(recalls)
        if self.by_sentence:
            scores = self._with_spans(scores, batch.captions, rows)
        return RewardOutput(scores, metrics)

    def _with_spans(self, scores: list[Score], captions: Sequence[str], rows: list[list[str]]) -> list[Score]:
        """Return the scores with a span for each sentence, whose value is what the caption would lose without it."""
        bounds = [
            sentence_spans(caption) if score.value is not None else []
            for caption, score in zip(captions, scores, strict=True)
        ]
        cut = [(i, at) for i, spans in enumerate(bounds) for at in spans]
        shortened = [f"{captions[i][:start].rstrip()} {captions[i][end:].lstrip()}".strip() for i, (start, end) in cut]
        images = [rows[i] for i, _ in cut]
        results = [(r, compute_cosines(r, shortened, images, self.pooling)[0]) for r in self.retrievers]
        spans: dict[int, list[Span]] = {}
        for n, (i, at) in enumerate(cut):
            without = self._mean_value([(cosines[n][~cosines[n].isnan()], retriever) for retriever, cosines in results])
            gain = (scores[i].value or 0.0) - without
            spans.setdefault(i, []).append(Span(*at, gain, f"{gain:+.2f}"))
        return [
            replace(score, spans=tuple(spans.get(i, ()))) if score.value is not None else score
            for i, score in enumerate(scores)
        ]

    def _mean_value(self, cosines: Sequence[tuple[torch.Tensor, Any]]) -> float:
        """Return the mean over the retrievers of a caption's value."""
        return sum(self._value(values, retriever) for values, retriever in cosines) / len(cosines)

    def _value(self, cosines: torch.Tensor, retriever: Any) -> float:
        if self.form == "recall":
            return float(is_first(cosines))
        if self.form == "margin":
            return margin(cosines)
        logprob = log_probability(cosines, retriever.logit_scale if self.scale is None else self.scale)
        return logprob if self.form == "logprob" else math.exp(logprob)
