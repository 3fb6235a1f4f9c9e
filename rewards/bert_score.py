"""BERTScore: do the caption's words have counterparts in a reference, by contextual embeddings?

measures  r = best over references of F1 of greedily matched token embeddings, rescaled: (F1 − baseline) / (1 − baseline)
range     [-1, 1]; 0 for unrelated captions, 1 for the reference itself
needs     references
cost      one encoder pass a text
source    BERTScore (Zhang et al., ICLR 2020). Its baselines are the mean F1 of random pairs; here that of captions of
          different images, which are more alike (`TokenMatchingScorer.unrelated_f1`). Layer: a third of the way up by default
hack      the references' words in any order; a wrong colour or number costs little, its embedding is near the right one's
guards    hallucination for what is wrong, grammar for order, self-retrieval against sameness
fails     cut_off, other_image, one_false, one_missing, rambling, injection, praise; by the lab's NLI encoder, for paragraphs held
          to short references
"""

from __future__ import annotations

from typing import Any

from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


class BertScore(Reward):
    """encoder: folder or hub name of a text encoder (`roberta-large`, `microsoft/deberta-large-mnli`), or an
    `TokenMatchingScorer`. layer: whose vectors are matched; 17 is published for roberta-large. baseline: F1 of unrelated
    captions under that encoder and layer. The empty caption gets the lowest value.
    """

    name, range, needs, version = "bert_score", (-1.0, 1.0), frozenset({"references"}), "1"

    def __init__(self, encoder: Any, layer: int | None = None, baseline: float = 0.0, device: str = "cpu") -> None:
        if not -1 <= baseline < 1:
            raise ValueError(f"baseline is the F1 of unrelated captions, in [-1, 1), got {baseline}")
        if isinstance(encoder, str):
            from rlcap.scorers.token_matching import TokenMatchingScorer

            encoder = TokenMatchingScorer.load(encoder, device, layer=layer, baseline=baseline)
        self.encoder = encoder

    def score(self, batch: RewardBatch) -> RewardOutput:
        references = [tuple(text for text in sample.references if text.strip()) for sample in batch.samples]
        rows = [i for i, texts in enumerate(references) if texts and batch.captions[i].strip()]
        found = self.encoder.best_f1([batch.captions[i] for i in rows], [references[i] for i in rows])
        values = {i: max(-1.0, min(1.0, value)) for i, value in zip(rows, found, strict=True)}
        return RewardOutput(
            [
                Score(values.get(i, self.range[0])) if texts else Score.abstain("no reference to compare with")
                for i, texts in enumerate(references)
            ]
        )
