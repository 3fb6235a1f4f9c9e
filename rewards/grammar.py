"""Grammar: is the caption made of well-formed sentences?

measures  r = mean over sentences of min(1, P(grammatical) / sure) by a classifier trained on spoilt captions
          (`classifier`), or the mean log-probability of a token under a language model (`language_model`)
range     [0, 1], or (-inf, 0] by a language model
needs     nothing
cost      one pass of a small classifier, or of a language model, a caption; neither sees the image
source    CLIP-Caption-Reward (arXiv 2205.13115): P(grammatical) by a head on CLIP's text encoder, trained on captions with
          n-grams repeated, removed, inserted, swapped, shuffled (weight 2 beside CLIP-S; its code has the weights the wrong
          way round). Here an encoder of its own: CLIP's reads little more than a bag of words. Log-perplexity: VLRM
          (arXiv 2404.01911)
hack      any fluent text, true or not; a language model likes what is said often, generic sentences and repetition most;
          one long sentence counts as much as one short one
guards    self-retrieval and critique for content, repetition, length
fails     none; by the lab's classifier, which hears form alone: other_image, one_false and one_missing tie
"""

from __future__ import annotations

import math
from typing import Any, Literal

from rlcap.reward.base import Reward, RewardOutput
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import RewardBatch, Score


class Grammar(Reward):
    """model: folder or hub name of a sequence classifier with a label for grammatical sentences (`rlcap grammar` trains one
    on your captions; textattack/roberta-base-CoLA with `label: 1`), of a causal language model for `language_model`, or a
    scorer object. label: number of the classifier's label where its name doesn't say. sure: probability that counts as 1: a
    classifier is never certain, and what it finds a little less certain is not worse grammar.

    The empty caption gets 0, or by a language model the value of words drawn at random (minus the log of its vocabulary).
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
            raise ValueError(f"sure is a probability in (0, 1], got {sure}")
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
        judge = self._classify if self.form == "classifier" else self._surprise
        return RewardOutput([Score(value) for value in judge(list(batch.captions))])

    def _classify(self, captions: list[str]) -> list[float]:
        sentences = [split_sentences(caption) for caption in captions]
        found = iter(self.model.probabilities([text for texts in sentences for text in texts]).tolist())
        return [
            math.fsum(min(1.0, next(found) / self.sure) for _ in texts) / len(texts) if texts else 0.0
            for texts in sentences
        ]

    def _surprise(self, captions: list[str]) -> list[float]:
        at_random = -math.log(self.model.words)
        values = self.model.log_probs([caption.strip() for caption in captions]).tolist()
        return [at_random if math.isnan(value) else min(value, 0.0) for value in values]
