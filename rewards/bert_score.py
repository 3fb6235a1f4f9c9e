"""BERTScore: do the caption's words have counterparts in a reference, as measured by contextual embeddings?

measures  r = the best F1 over the references, from greedily matched token embeddings, rescaled: (F1 − baseline) / (1 −
          baseline)
range     [-1, 1]; 0 for unrelated captions, 1 for the reference itself
needs     references
cost      one encoder pass per text
source    BERTScore (Zhang et al., ICLR 2020). The published baselines are the mean F1 of random pairs of sentences.
          Here the baseline is the mean F1 of captions of different images, which are more alike
          (`TokenMatchingScorer.unrelated_f1`). The default layer is a third of the way up the encoder
hack      the references' words in any order; a wrong colour or number costs little, because its embedding is close to
          that of the right one
guards    hallucination against false statements, grammar for the word order, self-retrieval against captions that are
          all alike
fails     cut_off, other_image, one_false, one_missing, rambling, injection, praise; measured with the lab's NLI encoder
          on paragraphs that are compared with short references
"""

from __future__ import annotations

from typing import Any

from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Score


class BertScore(Reward):
    """BERTScore as a reward. The empty caption gets the lowest value.

    Args:
        encoder: folder or hub name of a text encoder (`roberta-large`, `microsoft/deberta-large-mnli`), or a
            `TokenMatchingScorer`.
        layer: the layer whose vectors are matched; the published choice for roberta-large is 17.
        baseline: F1 of unrelated captions under this encoder and layer, in [-1, 1).
        device: where the encoder runs.
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
        """Score a batch of captions. A row without references abstains."""
        references = [sample.references for sample in batch.samples]
        rows = [i for i, texts in enumerate(references) if texts and batch.captions[i]]
        f1_values = self.encoder.best_f1([batch.captions[i] for i in rows], [references[i] for i in rows])
        values = {i: max(-1.0, min(1.0, value)) for i, value in zip(rows, f1_values, strict=True)}
        return RewardOutput(
            [
                Score(values.get(i, self.range[0])) if texts else Score.abstain("no reference to compare with")
                for i, texts in enumerate(references)
            ]
        )
