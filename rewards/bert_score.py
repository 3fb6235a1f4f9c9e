"""BERTScore: do the caption's words have counterparts in a reference, by contextual embeddings?

measures  r = best over references of F1 of greedily matched token embeddings, rescaled: (F1 − baseline) / (1 − baseline)
range     [-1, 1]; 0 for unrelated captions, 1 for the reference itself
needs     references
cost      one encoder pass a text
source    BERTScore (Zhang et al., ICLR 2020). Its baselines are the mean F1 of random pairs; here that of captions of
          different images, which are more alike (`AdequacyScorer.unrelated_f1`). Layer: a third of the way up by default
hack      the references' words in any order; a wrong colour or number costs little, its embedding is near the right one's
guards    hallucination for what is wrong, grammar for order, self-retrieval against sameness
fails     TODO
"""

from __future__ import annotations

from typing import Any

from rlcap.reward.base import Reward
from rlcap.types import RewardBatch, Score


class BertScore(Reward):
    """encoder: folder or hub name of a text encoder (`roberta-large`, `microsoft/deberta-large-mnli`), or an
    `AdequacyScorer`. layer: whose vectors are matched; 17 is published for roberta-large. baseline: F1 of unrelated
    captions under that encoder and layer. The empty caption gets the lowest value.
    """

    name, range, needs, version = "bert_score", (-1.0, 1.0), frozenset({"references"}), "1"

    def __init__(self, encoder: Any, layer: int | None = None, baseline: float = 0.0, device: str = "cpu") -> None:
        if not -1 <= baseline < 1:
            raise ValueError(f"baseline is the F1 of unrelated captions, in [-1, 1), got {baseline}")
        if isinstance(encoder, str):
            from rlcap.scorers.adequacy import AdequacyScorer

            encoder = AdequacyScorer.load(encoder, device, layer=layer, baseline=baseline)
        self.encoder = encoder

    def score(self, batch: RewardBatch) -> list[Score]:
        rows = [i for i, caption in enumerate(batch.captions) if caption.strip()]
        found = self.encoder.best_f1([batch.captions[i] for i in rows], [batch.samples[i].references for i in rows])
        values = dict(zip(rows, found, strict=True))
        return [self._one(values.get(i, self.range[0]), s.references) for i, s in enumerate(batch.samples)]

    def _one(self, value: float | None, references: tuple[str, ...]) -> Score:
        if value is None or not any(text.strip() for text in references):
            return Score.abstain("no reference to compare with")
        return Score(max(-1.0, min(1.0, value)))
