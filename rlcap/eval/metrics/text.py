"""Metrics of the captions' text alone: length, diversity, repetition. Every one is a value per caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rlcap.scorers.text.ngrams import distinct, ngrams, repeated_lines, repeated_share, tokenize
from rlcap.scorers.text.sentences import split_sentences


def text_metrics(captions: Sequence[str]) -> dict[str, np.ndarray]:
    """Per caption (N,):

    * `mean_words`: words, without punctuation.
    * `distinct_1`, `distinct_2`: different n-grams over n-grams within the caption (Li et al. 2016), in [0, 1]; 1 is best.
    * `corpus_distinct_1`, `corpus_distinct_2`: contributions whose mean is the distinct-n of all captions together.
    * `repetition`: share of 4-grams that the caption has said before, seq-rep-4 (Welleck et al. 2020), in [0, 1).
      Long true lists repeat a little too ("there is a small …"): read it beside `repeated_sentences`.
    * `repeated_sentences`: share of sentences that are word for word said before, in [0, 1).
    """
    words = [tokenize(caption) for caption in captions]
    metrics = {"mean_words": [float(len(tokens)) for tokens in words]}
    for n in (1, 2):
        metrics[f"distinct_{n}"] = [distinct(tokens, n) for tokens in words]
        metrics[f"corpus_distinct_{n}"] = corpus_distinct(words, n)
    metrics["repetition"] = [repeated_share(tokens, 4) for tokens in words]
    metrics["repeated_sentences"] = [repeated_lines(split_sentences(caption)) for caption in captions]
    return {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}


def corpus_distinct(texts: Sequence[Sequence[str]], n: int) -> list[float]:
    """Each tokenised text's contribution to the corpus's distinct-n: their mean is (different n-grams) / (n-grams).

    An n-gram that occurs c times gives each of its occurrences 1/c of its credit, so the sum is the number of different
    ones. An interval over them says how much texts differ, not how the ratio would fall in a larger corpus.
    """
    runs = [list(ngrams(tokens, n)) for tokens in texts]
    counts = Counter(run for own in runs for run in own)
    total = sum(counts.values())
    if not total:
        return [0.0] * len(texts)
    return [len(texts) / total * sum(1 / counts[run] for run in own) for own in runs]
