"""Metrics against human references, for photos whose exact content is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rlcap.scorers.text.cider import CiderD
from rlcap.scorers.text.sentences import split_sentences
from rlcap.types import Sample


class Nli(Protocol):
    """The interface of an NLI model that no reward uses; `rlcap.scorers.nli.NliScorer` implements it."""

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]):
        """Return (N, 3) probabilities of entailment, neutral and contradiction."""


def cider_metrics(captions: Sequence[str], samples: Sequence[Sample], cider: CiderD) -> dict[str, np.ndarray]:
    """Return `cider_d` (N,), in [0, 10]; NaN for an image without references."""
    values = [
        cider.score(caption, sample.references) if sample.references else np.nan
        for caption, sample in zip(captions, samples, strict=False)
    ]
    return {"cider_d": np.asarray(values, dtype=np.float64)}


def nli_metrics(captions: Sequence[str], samples: Sequence[Sample], nli: Nli) -> dict[str, np.ndarray]:
    """Return the shares of contradicted and entailed sentences of each caption.

    The premise is all references of the image together, and the hypothesis is one sentence of the caption.

    Returns:
        Metrics (N,), NaN where the caption is empty or the image has no references:

        * `nli_contradiction`: the share of sentences for which contradiction is the most likely of the three labels.
        * `nli_entailment`: the share of sentences for which entailment is the most likely label.
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
        labels = np.asarray(nli.probabilities(premises, hypotheses)).argmax(1)
        np.add.at(total, owners, 1)
        np.add.at(contradicted, owners, labels == 2)
        np.add.at(entailed, owners, labels == 0)
    with np.errstate(invalid="ignore"):
        return {"nli_contradiction": contradicted / total, "nli_entailment": entailed / total}
