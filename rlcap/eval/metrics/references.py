"""Metrics against human references, for photos whose truth nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rlcap.scorers.text.cider import CiderD
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample


class Nli(Protocol):
    """What is asked of an NLI model: `rlcap.scorers.nli.NliScorer`, another one than any reward's."""

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]):
        """(N, 3): entailment, neutral, contradiction."""


def cider_metrics(captions: Sequence[str], samples: Sequence[Sample], cider: CiderD) -> dict[str, np.ndarray]:
    """`cider_d` (N,), in [0, 10]; NaN for an image without references."""
    values = [
        cider.score(caption, sample.references) if sample.references else np.nan
        for caption, sample in zip(captions, samples, strict=False)
    ]
    return {"cider_d": np.asarray(values, dtype=np.float64)}


def nli_metrics(captions: Sequence[str], samples: Sequence[Sample], nli: Nli) -> dict[str, np.ndarray]:
    """Per caption (N,), of its sentences, each judged given all references of its image together:

    * `nli_contradiction`: share for which contradiction is the likeliest of the three labels.
    * `nli_entailment`: share for which entailment is.

    NaN where the caption is empty or the image has no references.
    """
    premises, hypotheses, owners = [], [], []
    for row, (caption, sample) in enumerate(zip(captions, samples, strict=False)):
        if sample.references:
            sentences = split_sentences(caption)
            premises += [" ".join(sample.references)] * len(sentences)
            hypotheses += sentences
            owners += [row] * len(sentences)
    contradicted, entailed, total = np.zeros((3, len(captions)))
    if owners:
        likeliest = np.asarray(nli.probabilities(premises, hypotheses)).argmax(1)
        np.add.at(total, owners, 1)
        np.add.at(contradicted, owners, likeliest == 2)
        np.add.at(entailed, owners, likeliest == 0)
    with np.errstate(invalid="ignore"):
        return {"nli_contradiction": contradicted / total, "nli_entailment": entailed / total}
