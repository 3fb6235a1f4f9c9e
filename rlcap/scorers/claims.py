"""A caption as a list of claims, each held against what the references say.

    cost = (1 − support) · (against + (1 − against) · unsupported)

with support the highest P(entailment) by any reference or by all together, and against = P(contradiction) /
(P(contradiction) + P(neutral)) given all references together: a single short reference is easily "contradicted" by what
another one says, and their union is not. Contradicted → 1, open → `unsupported`, supported → 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from rlcap.scorers.text.hedges import is_hedged, strip_hedges
from rlcap.scorers.text.sentences import split_sentences


class Nli(Protocol):
    """What is asked of an NLI model: see `rlcap.scorers.nli.NliScorer`."""

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Tensor: ...


def sentence_cost(support: float, contradicted: float, unentailed: float, unsupported: float) -> float:
    """Cost in [0, 1] of one claim. support: the highest P(entailment); contradicted: P(contradiction) by all references at
    once, of unentailed = P(neutral) + P(contradiction). Formula: module docstring."""
    against = contradicted / max(unentailed, 1e-9)
    return (1 - support) * (against + (1 - against) * unsupported)


def mean_contradictions(nli: Nli, captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """MOCHa's p̄ of each whole caption: the mean of P(contradiction) over its references, in [0, 1]."""
    pairs = [(text, caption) for caption, texts in zip(captions, references, strict=True) for text in texts]
    against = iter(nli.probabilities([p for p, _ in pairs], [h for _, h in pairs])[:, 2].tolist())
    return [sum(next(against) for _ in texts) / len(texts) for texts in references]


def distinct_sentences(caption: str) -> list[str]:
    """The different sentences of a caption; the caption itself where it has none."""
    return list(dict.fromkeys(split_sentences(caption))) or [caption]


def claim_costs(
    nli: Nli, captions: Sequence[str], references: Sequence[Sequence[str]], unsupported: float, each: bool = True
) -> list[float]:
    """Mean cost of each caption's sentences, in [0, 1]. Captions and their references must not be empty.

    See `sentence_costs`.
    """
    return [sum(row) / len(row) for row in sentence_costs(nli, captions, references, unsupported, each)]


def sentence_costs(
    nli: Nli, captions: Sequence[str], references: Sequence[Sequence[str]], unsupported: float, each: bool = True
) -> list[list[float]]:
    """Cost in [0, 1] of each of a caption's different sentences (`distinct_sentences`).

    each: hold every claim against each reference alone too. A model trained on pairs of single sentences needs it; one
    that reads several references at once does not, and costs (references + 1) times less without.

    A sentence said twice counts once. A hedged sentence costs what it costs without its hedges, and never less than
    `unsupported`. All pairs of the batch are judged in one pass.
    """
    claims = [distinct_sentences(caption) for caption in captions]
    readings = [[list(dict.fromkeys([s, strip_hedges(s) or s])) for s in sentences] for sentences in claims]
    asked: dict[tuple[str, str], int] = {}
    for texts, sentences in zip(references, readings, strict=True):
        for claim in (claim for reading in sentences for claim in reading):
            for premise in (" ".join(texts), *(texts if each else ())):
                asked.setdefault((premise, claim), len(asked))
    found = nli.probabilities([premise for premise, _ in asked], [claim for _, claim in asked])
    # lists: a number at a time, tensors cost more than the arithmetic
    entailed, contradicted, unentailed = (x.tolist() for x in (found[:, 0], found[:, 2], found[:, 1] + found[:, 2]))
    costs: list[list[float]] = []
    for texts, sentences, row in zip(references, claims, readings, strict=True):
        costs.append([])
        for sentence, reading in zip(sentences, row, strict=True):
            worst = unsupported if is_hedged(sentence) else 0.0
            for claim in reading:
                joint = asked[" ".join(texts), claim]
                support = max(entailed[i] for i in (joint, *(asked[text, claim] for text in (texts if each else ()))))
                worst = max(worst, sentence_cost(support, contradicted[joint], unentailed[joint], unsupported))
            costs[-1].append(worst)
    return costs
