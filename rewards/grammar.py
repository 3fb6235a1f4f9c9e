"""Grammar: is the caption made of well-formed sentences?

measures  r = mean over sentences of min(1, P(grammatical) / sure) from a classifier trained on corrupted captions
          (`classifier`), or the mean log-probability per token under a language model (`language_model`)
range     [0, 1], or (-inf, 0] by a language model
needs     nothing
cost      one pass of a small classifier, or of a language model, per caption; neither sees the image
source    CLIP-Caption-Reward (arXiv 2205.13115): P(grammatical) from a head on CLIP's text encoder, trained on captions
          with n-grams repeated, removed, inserted, swapped or shuffled (weight 2 beside CLIP-S; its code has the
          weights the other way round). This reward has its own encoder, because CLIP's reads little more than a bag of
          words. Log-perplexity: VLRM (arXiv 2404.01911)
hack      any fluent text, true or not. A language model prefers what is said often: generic sentences and repetition.
          One long sentence counts as much as one short one
guards    self-retrieval and critique for the content, repetition, length
fails     none; measured with the lab's classifier, which looks at form alone: other_image, one_false and one_missing
          tie
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.sentences import sentence_spans, split_sentences
from rlcap.types import RewardBatch, Score, Span


class Grammar(Reward):
    """Well-formedness of the caption's sentences as a reward.

    The empty caption gets 0; with a language model it gets the value of words drawn at random (minus the log of the
    vocabulary size).

    Args:
        model: folder or hub name of a sequence classifier with a label for grammatical sentences (`rlcap grammar`
            trains one on your captions; textattack/roberta-base-CoLA needs `label: 1`), of a causal language model for
            `language_model`, or a scorer object.
        form: `classifier` or `language_model`.
        label: number of the classifier's label for grammatical sentences, where the labels' names do not say which it
            is.
        sure: probability in (0, 1] that counts as 1. A classifier is never certain, and a slightly lower probability
            does not mean worse grammar.
        device: where the model runs.
    """

    name, version = "grammar", "1"

    def __init__(
        self,
        model: Any,
        form: Literal["classifier", "language_model"] = "classifier",
        label: int | None = None,
        sure: float = 0.9,
        device: str = "cpu",
    ) -> None:
        from rlcap.scorers.grammar import AcceptabilityScorer, LikelihoodScorer

        if form not in ("classifier", "language_model"):
            raise ValueError(f"form must be classifier or language_model, got {form!r}")
        if not 0 < sure <= 1:
            raise ValueError(f"sure is a probability and must lie in (0, 1], got {sure}")
        self.form, self.sure = form, sure
        self.range = (0.0, 1.0) if form == "classifier" else (-float("inf"), 0.0)
        if isinstance(model, str):
            model = (
                AcceptabilityScorer.load(model, label, device)
                if form == "classifier"
                else LikelihoodScorer.load(model, device)
            )
        self.model = model

    def score(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions."""
        if self.form == "classifier":
            return RewardOutput(self._classify(batch.captions))
        return RewardOutput([Score(value) for value in self._surprise(list(batch.captions))])

    def _classify(self, captions: Sequence[str]) -> list[Score]:
        sentences = [split_sentences(caption) for caption in captions]
        probabilities = iter(self.model.probabilities([text for texts in sentences for text in texts]).tolist())
        scores = []
        for caption, texts in zip(captions, sentences, strict=True):
            values = [min(1.0, next(probabilities) / self.sure) for _ in texts]
            spans = tuple(
                Span(*at, value - 1, f"grammar {value:.2f}")
                for at, value in zip(sentence_spans(caption), values, strict=True)
            )
            scores.append(Score(math.fsum(values) / len(values), spans=spans) if values else Score(0.0))
        return scores

    def _surprise(self, captions: list[str]) -> list[float]:
        random_value = -math.log(self.model.words)
        values = self.model.log_probs([caption.strip() for caption in captions]).tolist()
        return [random_value if math.isnan(value) else min(value, 0.0) for value in values]
