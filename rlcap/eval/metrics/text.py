"""Metrics of the text of captions alone: length, diversity and repetition. Each metric has one value per caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rlcap.scorers.text.ngrams import distinct, ngrams, repeated_lines, repeated_share, tokenize
from rlcap.scorers.text.sentences import split_sentences


def text_metrics(captions: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the text metrics of N captions, each (N,).

    * `mean_words`: the number of words, without punctuation.
    * `distinct_1`, `distinct_2`: different n-grams divided by all n-grams of the caption (Li et al. 2016), in [0, 1];
      1 is best.
    * `corpus_distinct_1`, `corpus_distinct_2`: contributions whose mean is the distinct-n of all captions together.
    * `repetition`: the share of 4-grams that occur earlier in the caption, seq-rep-4 (Welleck et al. 2020), in [0, 1).
      Long true lists also repeat a little ("there is a small …"), so read it together with `repeated_sentences`.
    * `repeated_sentences`: the share of sentences that occur earlier in the caption word for word, in [0, 1).
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
    """Return the contribution of each tokenised text to the distinct-n of the corpus.

    The mean of the contributions is (different n-grams) / (all n-grams). Each occurrence of an n-gram that occurs c
    times counts 1/c, so that the sum is the number of different n-grams. An interval over the contributions shows how
    much the texts differ; it does not show that the ratio falls in a larger corpus.
    """
    text_ngrams = [list(ngrams(tokens, n)) for tokens in texts]
    counts = Counter(ngram for own in text_ngrams for ngram in own)
    total = sum(counts.values())
    if not total:
        return [0.0] * len(texts)
    return [len(texts) / total * sum(1 / counts[ngram] for ngram in own) for own in text_ngrams]
