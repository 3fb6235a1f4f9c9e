"""Grounding: does each word of a caption have something to rest on in a reference?

    support of a word = highest cosine of its vector in context with any reference's word vector
    doubt in a word   = clip((1 − support) / (1 − chance), 0, 1)
    doubt in a text   = (mean over its words of doubt^p)^(1/p); p = 1: the mean, p → ∞: the least supported word alone
    cost of a claim   = share · doubt + (1 − share) · the NLI model's cost (`rlcap.scorers.claims`)
    cost of a caption = (mean over its sentences of cost^q)^(1/q): true sentences dilute a false one little
    coverage          = mean over the words of all references of 1 − doubt, each looked up in the caption

An NLI model judges a sentence as a whole and passes over one wrong word among ten right ones. Here every word is looked up by
itself: a wrong thing, colour, number, place or action finds only what is somewhat like it, a paraphrase finds its meaning, since
the vectors are contextual. ALOHa (Petryk et al. 2024) does so for objects, deciding by the worst; the vectors and the greedy
matching are BERTScore's (Zhang et al. 2020). The matching does not see contradiction: that remains the NLI model's part.
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
"""Words that claim nothing of an image by themselves. Prepositions of place and numbers do, and are not among them."""


def word_doubts(support: Tensor, chance: float) -> Tensor:
    """Support (W,) → doubt (W,) in [0, 1]: 1 at `chance` and below, 0 at a cosine of 1."""
    return ((1 - support) / (1 - chance)).clamp(0, 1)


def power_mean(doubts: Tensor, power: float) -> float:
    """(mean d^p)^(1/p) of doubts (W,) in [0, 1], W ≥ 1."""
    return float(doubts.double().pow(power).mean().pow(1 / power))


@dataclass(frozen=True, slots=True)
class Grounding:
    """An encoder, and what its cosines mean."""

    encoder: TokenMatchingScorer
    chance: float = 0.0
    """Cosine in [-1, 1) that an unrelated word finds, for encoders whose cosines are all high."""
    power: float = 1.0
    """1 or more: how much the least supported words decide."""
    share: float = 0.75
    """Of a sentence's cost, in [0, 1]; the rest is the NLI model's."""
    worst: float = 4.0
    """q, 1 or more: how much a caption's worst sentence decides; 1: no more than any other."""

    @classmethod
    def from_nli(cls, nli: Any, **numbers: float) -> Grounding:
        """With the encoder inside an `NliScorer`, two thirds of the way up: lower layers know little of a word's company,
        the last ones mix premise and hypothesis."""
        if strange := sorted(set(numbers) - {field.name for field in fields(cls) if field.name != "encoder"}):
            raise ValueError(f"grounding has chance, power, share and worst, not {strange[0]!r}")
        depth = nli.model.base_model.config.num_hidden_layers
        return cls(TokenMatchingScorer.from_nli(nli, layer=round(2 * depth / 3)), **numbers)

    @classmethod
    def load(cls, path_or_name: str, device: str = "cpu", **numbers: float) -> Grounding:
        """With any text encoder, read at the same height. ConfigError where there is no such model."""
        encoder = TokenMatchingScorer.load(path_or_name, device)
        encoder.layer = round(2 * encoder.encoder.config.num_hidden_layers / 3)
        return cls(encoder, **numbers)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share lies in [0, 1], got {self.share}")
        if not -1 <= self.chance < 1:
            raise ValueError(f"chance lies in [-1, 1), got {self.chance}")
        for name in ("power", "worst"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is at least 1, got {getattr(self, name)}")

    def doubts(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float | None]:
        """Doubt in each text, in [0, 1], given the references of its own row; None for a text without words that claim
        anything: not to be sure of nothing is no merit."""
        told = [torch.tensor([cosine for _, cosine in row]) for row in self.support(texts, references)]
        return [power_mean(word_doubts(row, self.chance), self.power) if len(row) else None for row in told]

    def coverage(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float | None]:
        """How much of what its references say each text says too, in [0, 1]: the mean over all their words of 1 − the word's
        doubt given the text alone, so that what several references say weighs more. None where they claim nothing. Counts are compared as words."""
        texts, references = (
            [spell_out_counts(text) for text in texts],
            [[*map(spell_out_counts, told)] for told in references],
        )
        rows = [(reference, text) for text, told in zip(texts, references, strict=True) for reference in told]
        found = iter(self.support([reference for reference, _ in rows], [[text] for _, text in rows]))
        covered: list[float | None] = []
        for told in references:
            cosines = torch.tensor([cosine for _ in told for _, cosine in next(found)])
            covered.append(float(1 - word_doubts(cosines, self.chance).mean()) if len(cosines) else None)
        return covered

    def support(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[tuple[str, float]]]:
        """Per text its words that claim something, each with its highest cosine in [-1, 1] (-1 where no reference has a
        word). Each distinct text is encoded once."""
        vectors = self.encoder.word_vectors(dict.fromkeys([*texts, *(text for row in references for text in row)]))
        found = []
        for text, row in zip(texts, references, strict=True):
            words, own = vectors[text]
            keep = [i for i, word in enumerate(words) if word not in STOP_WORDS]
            known = [vectors[reference][1] for reference in row if len(vectors[reference][1])]
            if not keep:
                found.append([])
            elif not known:
                found.append([(words[i], -1.0) for i in keep])
            else:
                best = (own[keep] @ torch.cat(known).T).max(1).values
                found.append(list(zip([words[i] for i in keep], best.tolist(), strict=True)))
        return found


def grounded_costs(
    nli: Nli,
    grounding: Grounding,
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    unsupported: float,
    each: bool = True,
) -> list[float]:
    """Cost in [0, 1] of each caption, by its different sentences: what the NLI model says against a sentence
    (`claims.sentence_costs`) and the doubt in its words, `grounding.share` of it; the former alone where no word claims
    anything. Captions and their references must not be empty. Hedges are no words of a claim: a hedged sentence is looked
    up without them. Counts are compared as words (`numbers.spell_out_counts`)."""
    captions, references = (
        [spell_out_counts(text) for text in captions],
        [[*map(spell_out_counts, texts)] for texts in references],
    )
    judged = sentence_costs(nli, captions, references, unsupported, each)
    rows = [
        (strip_hedges(s) or s, texts)
        for c, texts in zip(captions, references, strict=True)
        for s in distinct_sentences(c)
    ]
    doubts = iter(grounding.doubts([claim for claim, _ in rows], [texts for _, texts in rows]))
    costs = []
    for sentences in judged:
        pairs = [(cost, next(doubts)) for cost in sentences]
        mixed = [cost if doubt is None else cost + grounding.share * (doubt - cost) for cost, doubt in pairs]
        costs.append(power_mean(torch.tensor(mixed, dtype=torch.float64), grounding.worst))
    return costs
