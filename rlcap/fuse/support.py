"""Which statements support a sentence: by shared words without a model, or by an NLI model.

    support = WordSupport()
    support.judge([["a dog runs."]], [[Statement("dog", "tag", "tags")]])       # per paragraph and sentence: a Provenance

A support of your own is a class with `judge`, named by its dotted path in the preset (`support: {by: my_module:MySupport}`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.config.imports import build, resolve, unknown
from rlcap.errors import ConfigError
from rlcap.experts.statement import Statement
from rlcap.fuse.preset import SupportConfig
from rlcap.scorers.objects.vocabulary import fold_words
from rlcap.scorers.text.hedges import strip_hedges
from rlcap.scorers.text.numbers import spell_out_counts


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of a sentence."""

    statements: tuple[int, ...]
    """Indices of the statements that say the sentence or a part of it."""
    experts: int
    """How many experts stand behind the sentence, or behind its weakest claim where claims are told apart. 1 where no expert supports the
    whole sentence alone, but the statements of all together do; 0 where not even they do."""


class Support(ABC):
    """Finds the statements that support sentences."""

    @abstractmethod
    def judge(
        self, paragraphs: Sequence[Sequence[str]], statements: Sequence[Sequence[Statement]]
    ) -> list[list[Provenance]]:
        """Return the provenance of each sentence.

        Args:
            paragraphs: N paragraphs as lists of sentences.
            statements: The statements about the image of each paragraph.
        """


class WordSupport(Support):
    """Compares content words: a rough measure without a model, which knows neither synonyms nor what belongs to what.

    A statement says a part of a sentence where the two share `part` or more of the content words of the shorter one. A set of statements
    supports the whole sentence where the words that those statements share with it are `share` or more of its content words. Words are
    folded into their singular, and counts are spelt out.

    Args:
        share: Share of the content words of a sentence, in (0, 1].
        part: Share of the content words of the shorter text, in (0, 1].
    """

    def __init__(self, share: float = 0.6, part: float = 0.5) -> None:
        if not (0 < share <= 1 and 0 < part <= 1):
            raise ConfigError(f"share and part of the word support lie in (0, 1], got {share} and {part}")
        self.share, self.part = share, part

    def judge(
        self, paragraphs: Sequence[Sequence[str]], statements: Sequence[Sequence[Statement]]
    ) -> list[list[Provenance]]:
        """See `Support.judge`. A sentence without content words is supported by nothing."""
        judged = []
        for sentences, told in zip(paragraphs, statements, strict=True):
            known = [content_words(one.text) for one in told]
            judged.append([self._judge(content_words(sentence), known, told) for sentence in sentences])
        return judged

    def _judge(self, words: frozenset[str], known: Sequence[frozenset[str]], told: Sequence[Statement]) -> Provenance:
        shared = {
            i: common
            for i, other in enumerate(known)
            if (common := words & other) and len(common) >= self.part * min(len(words), len(other))
        }
        by_expert: dict[str, frozenset[str]] = {}
        for i, common in shared.items():
            by_expert[told[i].source] = by_expert.get(told[i].source, frozenset()) | common
        experts = sum(self._is_enough(common, words) for common in by_expert.values())
        together = self._is_enough(frozenset().union(*shared.values()), words)
        return Provenance(tuple(shared), max(experts, int(together)))

    def _is_enough(self, common: frozenset[str], words: frozenset[str]) -> bool:
        return bool(words) and len(common) >= self.share * len(words)


def content_words(text: str) -> frozenset[str]:
    """Return the words of a text that claim something about an image, in the singular."""
    from rlcap.scorers.grounding import STOP_WORDS  # imports torch, which other parts of fusion do without

    return frozenset(word for word in fold_words(spell_out_counts(text)) if word not in STOP_WORDS)


class NliSupport(Support):
    """Asks an NLI model whether statements entail a sentence.

    A statement supports a sentence where P(entailment) reaches the threshold. Hedges are left out of the sentence first. All statements
    of an expert, and those of all experts, are also given together, up to the model's length; where only they entail the sentence, the
    statements that share its words are named.

    Args:
        nli: Folder, hub name or address of an NLI cross-encoder.
        threshold: The lowest P(entailment), in (0, 1].
        device: Where the model runs.
    """

    def __init__(self, nli: str, threshold: float = 0.5, device: str = "cpu") -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"the threshold of the NLI support lies in (0, 1], got {threshold}")
        self.nli, self.threshold, self.device = nli, threshold, device
        self._words = WordSupport()
        self._scorer: Any = None

    def judge(
        self, paragraphs: Sequence[Sequence[str]], statements: Sequence[Sequence[Statement]]
    ) -> list[list[Provenance]]:
        """See `Support.judge`."""
        if self._scorer is None:
            from rlcap.scorers.nli import NliScorer

            self._scorer = NliScorer.load(self.nli, self.device)
        pairs: dict[tuple[str, str], int] = {}
        for sentences, told in zip(paragraphs, statements, strict=True):
            for premise in _premises(told):
                for sentence in sentences:
                    pairs.setdefault((premise, _bare(sentence)), len(pairs))
        if not pairs:
            return [[Provenance((), 0) for _ in sentences] for sentences in paragraphs]
        entailed = self._scorer.probabilities([p for p, _ in pairs], [h for _, h in pairs])[:, 0].tolist()
        holds = {pair: entailed[i] >= self.threshold for pair, i in pairs.items()}
        rough = self._words.judge(paragraphs, statements)
        return [
            [self._judge(sentence, told, holds, words) for sentence, words in zip(sentences, row, strict=True)]
            for sentences, told, row in zip(paragraphs, statements, rough, strict=True)
        ]

    def _judge(
        self, sentence: str, told: Sequence[Statement], holds: dict[tuple[str, str], bool], words: Provenance
    ) -> Provenance:
        claim = _bare(sentence)
        alone = tuple(i for i, one in enumerate(told) if holds[one.sentence(), claim])
        names = dict.fromkeys(one.source for one in told)
        experts = sum(
            any(told[i].source == name for i in alone) or holds[_join(one for one in told if one.source == name), claim]
            for name in names
        )
        together = experts > 0 or bool(told and holds[_join(told), claim])
        return Provenance(alone or (words.statements if together else ()), max(experts, int(together)))


def _bare(sentence: str) -> str:
    return strip_hedges(sentence) or sentence


def _join(statements: Any) -> str:
    return " ".join(one.sentence() for one in statements)


def _premises(told: Sequence[Statement]) -> list[str]:
    """Return each statement, the statements of each expert together, and all together, each different text once."""
    names = dict.fromkeys(one.source for one in told)
    joint = [_join(one for one in told if one.source == name) for name in names]
    return list(dict.fromkeys([*(one.sentence() for one in told), *joint, *([_join(told)] if told else [])]))


KINDS = {"words": WordSupport, "nli": NliSupport}
"""Short name → class."""


def load_support(config: SupportConfig) -> Support:
    """Return the support that a preset names.

    Raises:
        ConfigError: It is unknown, no `Support`, or has wrong parameters.
    """
    if ":" not in config.by and config.by not in KINDS:
        raise ConfigError(f"support.by: {unknown('support', config.by, KINDS)}, module:Class")
    kind = KINDS.get(config.by) or resolve(config.by, Support)
    support: Support = build(kind, config.params, what=f"support {config.by}")
    return support
