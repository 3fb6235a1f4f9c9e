"""Grounding: how well the references support each word of a caption.

    support of a word = highest cosine of its contextual vector with any word vector of a reference
    doubt in a word   = clip((1 − support) / (1 − chance), 0, 1)
    doubt in a text   = (mean over its words of doubt^p)^(1/p); p = 1: the mean, p → ∞: the least supported word alone
    cost of a claim   = share · doubt + (1 − share) · the NLI model's cost (`rlcap.scorers.claims`)
    cost of a caption = (mean over its sentences of cost^q)^(1/q): true sentences hardly dilute a false one
    coverage          = mean over the words of all references of 1 − doubt, each word looked up in the caption

An NLI model judges a sentence as a whole and overlooks one wrong word among ten right ones. Here every word is looked
up by itself. A wrong object, colour, number, place or action matches only words that are somewhat similar. A paraphrase
matches its counterpart, since the vectors are contextual. ALOHa (Petryk et al. 2024) does the same for objects, and
takes the worst one; the vectors and the greedy matching are those of BERTScore (Zhang et al. 2020). The matching does
not detect contradiction, which remains the task of the NLI model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from rlcap.scorers.claims import Nli, distinct_sentences, sentence_costs
from rlcap.scorers.text.hedges import strip_hedges
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.numbers import spell_out_counts
from rlcap.scorers.token_matching import TokenMatchingScorer

STOP_WORDS = frozenset(
    tokenize(
        "a an the this that these those there here it its is are was were be been being am has have had do does did and or but "
        "nor so as also very too of to at by for from with which who whose what where when while some any his her hers their "
        "theirs he she they him them himself herself itself themselves my your our i you we s t image picture photo photograph "
        "scene view show shows shown showing depict depicts depicting feature features featuring seen appears appear seems seem"
    )
)
"""Words that claim nothing about an image by themselves. Prepositions of place and numbers do, and are not included."""


def word_doubts(support: Tensor, chance: float) -> Tensor:
    """Turn support (W,) into doubt (W,) in [0, 1]: 1 at `chance` and below, 0 at a cosine of 1."""
    return ((1 - support) / (1 - chance)).clamp(0, 1)


def power_mean(doubts: Tensor, power: float) -> float:
    """Return (mean d^p)^(1/p) of doubts (W,) in [0, 1], W ≥ 1."""
    return float(doubts.double().pow(power).mean().pow(1 / power))


@dataclass(frozen=True, slots=True)
class Grounding:
    """An encoder, with the parameters that turn its cosines into costs."""

    encoder: TokenMatchingScorer
    """The encoder of word vectors."""
    chance: float = 0.0
    """Cosine in [-1, 1) of unrelated words, for encoders whose cosines are all high."""
    power: float = 1.0
    """p, 1 or more: the weight of the least supported words."""
    share: float = 0.75
    """Share of doubt in a sentence's cost, in [0, 1]; the rest is the NLI model's cost."""
    worst: float = 4.0
    """q, 1 or more: the weight of a caption's worst sentences; 1 weighs all sentences equally."""

    @classmethod
    def from_nli(cls, nli: Any, **numbers: float) -> Grounding:
        """Use the encoder inside an `NliScorer`, at two thirds of its layers.

        Lower layers carry little of a word's context; the last ones mix premise and hypothesis.

        Args:
            nli: the `NliScorer`.
            **numbers: the fields `chance`, `power`, `share` and `worst`.

        Raises:
            ValueError: another field is named.
        """
        if unknown := sorted(set(numbers) - {field.name for field in fields(cls) if field.name != "encoder"}):
            raise ValueError(f"grounding has chance, power, share and worst, not {unknown[0]!r}")
        depth = nli.model.base_model.config.num_hidden_layers
        return cls(TokenMatchingScorer.from_nli(nli, layer=round(2 * depth / 3)), **numbers)

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu", **numbers: float) -> Grounding:
        """Use any text encoder, at two thirds of its layers.

        Args:
            path_or_name: folder or hub name of the encoder.
            device: device of the encoder.
            **numbers: the fields `chance`, `power`, `share` and `worst`.

        Raises:
            ConfigError: the model does not exist.
        """
        encoder = TokenMatchingScorer.load(path_or_name, device)
        encoder.layer = round(2 * encoder.encoder.config.num_hidden_layers / 3)
        return cls(encoder, **numbers)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {self.share}")
        if not -1 <= self.chance < 1:
            raise ValueError(f"chance must lie in [-1, 1), got {self.chance}")
        for name in ("power", "worst"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def doubts(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float | None]:
        """Return the doubt in each text, in [0, 1], given the references of its row.

        A text without words that claim anything gives None, since a text that claims nothing should not count as well
        supported.
        """
        rows = [torch.tensor([cosine for _, cosine in row]) for row in self.support(texts, references)]
        return [power_mean(word_doubts(row, self.chance), self.power) if len(row) else None for row in rows]

    def coverage(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float | None]:
        """Return how much of its references each text covers, in [0, 1].

        The coverage is the mean over all words of the references of 1 − doubt, with the doubt of the word given the
        text alone. So content that several references mention weighs more. Counts are compared as words. References
        that claim nothing give None.
        """
        texts, references = (
            [spell_out_counts(text) for text in texts],
            [[*map(spell_out_counts, row)] for row in references],
        )
        rows = [(reference, text) for text, row in zip(texts, references, strict=True) for reference in row]
        supports = iter(self.support([reference for reference, _ in rows], [[text] for _, text in rows]))
        covered: list[float | None] = []
        for row in references:
            cosines = torch.tensor([cosine for _ in row for _, cosine in next(supports)])
            covered.append(float(1 - word_doubts(cosines, self.chance).mean()) if len(cosines) else None)
        return covered

    def support(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
        """Return the words of each text that claim something, with their support.

        Args:
            texts: N texts; each distinct text is encoded once.
            references: the references of each text.

        Returns:
            For each text a list of (word, highest cosine in [-1, 1]); the cosine is -1 where no reference has a word.
        """
        vectors = self.encoder.word_vectors(dict.fromkeys([*texts, *(text for row in references for text in row)]))
        supports: list[list[tuple[str, float]]] = []
        for text, row in zip(texts, references, strict=True):
            words, own = vectors[text]
            keep = [i for i, word in enumerate(words) if word not in STOP_WORDS]
            reference_vectors = [vectors[reference][1] for reference in row if len(vectors[reference][1])]
            if not keep:
                supports.append([])
            elif not reference_vectors:
                supports.append([(words[i], -1.0) for i in keep])
            else:
                best = (own[keep] @ torch.cat(reference_vectors).T).max(1).values
                supports.append(list(zip([words[i] for i in keep], best.tolist(), strict=True)))
        return supports


@dataclass(frozen=True, slots=True)
class GroundedSentence:
    """What NLI model and references say of a sentence."""

    text: str
    """The sentence, with counts as words."""
    cost: float
    """Its cost in [0, 1], mixed of the two."""
    nli_cost: float
    """The cost by the NLI model alone, in [0, 1]."""
    words: tuple[tuple[str, float], ...]
    """The words that claim something, each with the doubt in it, in [0, 1]."""


def grounded_sentences(
    nli: Nli,
    grounding: Grounding,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    unsupported: float,
    each: bool = True,
) -> list[list[GroundedSentence]]:
    """Return the distinct sentences of each caption with their costs.

    The cost of a sentence mixes the cost by the NLI model (`claims.sentence_costs`) and the doubt in its words, which
    has the share `grounding.share`. Where no word claims anything, the NLI model decides alone. Hedges are removed
    before words are looked up, since they claim nothing. Counts are compared as words (`numbers.spell_out_counts`).
    Captions and their references must not be empty. For `unsupported` and `each`, see `claims.sentence_costs`.
    """
    captions, references = (
        [spell_out_counts(text) for text in captions],
        [[*map(spell_out_counts, texts)] for texts in references],
    )
    nli_costs = sentence_costs(nli, captions, references, unsupported, each)
    sentences = [distinct_sentences(caption) for caption in captions]
    rows = [(strip_hedges(s) or s, texts) for own, texts in zip(sentences, references, strict=True) for s in own]
    supports = iter(grounding.support([claim for claim, _ in rows], [texts for _, texts in rows]))
    results = []
    for texts, costs in zip(sentences, nli_costs, strict=True):
        results.append([_mix(text, cost, next(supports), grounding) for text, cost in zip(texts, costs, strict=True)])
    return results


def _mix(text: str, cost: float, support: Sequence[tuple[str, float]], grounding: Grounding) -> GroundedSentence:
    if not support:
        return GroundedSentence(text, cost, cost, ())
    doubts = word_doubts(torch.tensor([cosine for _, cosine in support]), grounding.chance)
    doubt = power_mean(doubts, grounding.power)
    words = tuple(zip([word for word, _ in support], doubts.tolist(), strict=True))
    return GroundedSentence(text, cost + grounding.share * (doubt - cost), cost, words)


def caption_cost(sentences: Sequence[GroundedSentence], worst: float) -> float:
    """Return the cost in [0, 1] of a caption: the power mean of the costs of its sentences, of which there is at least one.

    Args:
        sentences: the distinct sentences of the caption.
        worst: q, 1 or more; see `Grounding`.
    """
    return power_mean(torch.tensor([sentence.cost for sentence in sentences], dtype=torch.float64), worst)
