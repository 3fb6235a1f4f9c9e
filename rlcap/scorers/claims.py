"""A caption as a list of claims, each of them compared with the references.

    cost = (1 − support) · (against + (1 − against) · unsupported)

Here support is the highest P(entailment) by any single reference or by all references together. The term against =
P(contradiction) / (P(contradiction) + P(neutral)) is computed given all references together: a single short reference
is easily "contradicted" by what another one says, and their union is not. A contradicted claim costs 1, an open claim
`unsupported`, a supported claim 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from rlcap.scorers.text.hedges import is_hedged, strip_hedges
from rlcap.scorers.text.sentences import split_sentences


class Nli(Protocol):
    """The interface of an NLI model; see `rlcap.scorers.nli.NliScorer`."""

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Tensor:
        """Return (N, 3) P(entailment), P(neutral) and P(contradiction) of N pairs."""
        ...


def sentence_cost(support: float, contradicted: float, unentailed: float, unsupported: float) -> float:
    """Return the cost of one claim, in [0, 1], by the formula of the module docstring.

    Args:
        support: the highest P(entailment).
        contradicted: P(contradiction) given all references at once.
        unentailed: P(neutral) + P(contradiction) given all references at once.
        unsupported: the cost of a claim that is neither supported nor contradicted.
    """
    against = contradicted / max(unentailed, 1e-9)
    return (1 - support) * (against + (1 - against) * unsupported)


def mean_contradictions(nli: Nli, captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return MOCHa's p̄ of each caption as a whole: the mean of P(contradiction) over its references, in [0, 1]."""
    pairs = [(text, caption) for caption, texts in zip(captions, references, strict=True) for text in texts]
    against = iter(nli.probabilities([p for p, _ in pairs], [h for _, h in pairs])[:, 2].tolist())
    return [sum(next(against) for _ in texts) / len(texts) for texts in references]


def distinct_sentences(caption: str) -> list[str]:
    """Return the distinct sentences of a caption; the caption itself where it has none."""
    return list(dict.fromkeys(split_sentences(caption))) or [caption]


def sentence_costs(
    nli: Nli, captions: Sequence[str], references: Sequence[Sequence[str]], unsupported: float, each: bool = True
) -> list[list[float]]:
    """Return the cost in [0, 1] of each distinct sentence of each caption (`distinct_sentences`).

    A repeated sentence counts once. A hedged sentence costs as much as the sentence without its hedges, and at least
    `unsupported`. One pass judges all pairs of the batch.

    Args:
        nli: the NLI model.
        captions: captions, none of them empty.
        references: the references of each caption, at least one.
        unsupported: the cost of a claim that is neither supported nor contradicted.
        each: whether to compare every claim with each reference alone as well. A model trained on pairs of single
            sentences needs this. A model that reads several references at once does not, and is (references + 1) times
            cheaper without it.
    """
    claims = [distinct_sentences(caption) for caption in captions]
    variants = [[list(dict.fromkeys([s, strip_hedges(s) or s])) for s in sentences] for sentences in claims]
    pair_rows: dict[tuple[str, str], int] = {}
    for texts, sentence_wordings in zip(references, variants, strict=True):
        for claim in (claim for wordings in sentence_wordings for claim in wordings):
            for premise in (" ".join(texts), *(texts if each else ())):
                pair_rows.setdefault((premise, claim), len(pair_rows))
    probabilities = nli.probabilities([premise for premise, _ in pair_rows], [claim for _, claim in pair_rows])
    # lists, because wordings single numbers from tensors costs more than the arithmetic
    entailed, contradicted, unentailed = (
        x.tolist() for x in (probabilities[:, 0], probabilities[:, 2], probabilities[:, 1] + probabilities[:, 2])
    )
    costs: list[list[float]] = []
    for texts, sentences, row in zip(references, claims, variants, strict=True):
        costs.append([])
        for sentence, wordings in zip(sentences, row, strict=True):
            worst = unsupported if is_hedged(sentence) else 0.0
            for claim in wordings:
                joint = pair_rows[" ".join(texts), claim]
                support = max(
                    entailed[i] for i in (joint, *(pair_rows[text, claim] for text in (texts if each else ())))
                )
                worst = max(worst, sentence_cost(support, contradicted[joint], unentailed[joint], unsupported))
            costs[-1].append(worst)
    return costs
