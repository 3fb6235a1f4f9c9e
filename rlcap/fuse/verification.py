"""Verifies paragraphs: each sentence keeps its provenance, and one that no expert supports is flagged, dropped or given back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlcap.experts.statement import Statement
from rlcap.fuse.preset import VerifyConfig
from rlcap.fuse.support import Provenance, Support
from rlcap.scorers.text.sentences import split_sentences


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a paragraph with what is known of it."""

    text: str
    statements: tuple[int, ...] = ()
    """Indices of the statements that say it or a part of it."""
    why: str | None = None
    """Why it is not supported; None where it is."""

    @property
    def is_supported(self) -> bool:
        """Whether enough experts support it."""
        return self.why is None

    def to_json(self, mark: bool) -> dict[str, object]:
        """Return the sentence as a mapping of JSON values; `mark` adds `unsupported` where it applies."""
        row: dict[str, object] = {"text": self.text, "statements": list(self.statements)}
        return row | ({"unsupported": self.why} if mark and self.why else {})


@dataclass(frozen=True, slots=True)
class Verified:
    """A paragraph after its verification."""

    sentences: tuple[Sentence, ...]
    """The sentences that stay, in order."""
    dropped: tuple[Sentence, ...] = ()
    """The sentences that were left out."""
    rewritten: tuple[Sentence, ...] = ()
    """The sentences that were given back to the fuser for rewriting."""

    @property
    def paragraph(self) -> str:
        """The text of the sentences that stay."""
        return " ".join(sentence.text for sentence in self.sentences)


class Verifier:
    """Judges the sentences of paragraphs by the statements of the experts.

    Args:
        config: The preset's section `verify`.
        support: Finds the statements that support a sentence.
    """

    def __init__(self, config: VerifyConfig, support: Support) -> None:
        self.config, self.support = config, support

    def read(self, paragraphs: Sequence[str], statements: Sequence[Sequence[Statement]]) -> list[list[Sentence]]:
        """Return the sentences of N paragraphs with their provenance.

        The statements of all experts are named as provenance, and those of `verify.evidence` alone decide what is supported.
        """
        split = [split_sentences(paragraph) for paragraph in paragraphs]
        told = self.support.judge(split, statements)
        if not self.config.evidence:
            evidence = told
        else:
            allowed = [[one for one in found if one.source in self.config.evidence] for found in statements]
            evidence = self.support.judge(split, allowed)
        return [
            [
                Sentence(text, named.statements, self._why(deciding))
                for text, named, deciding in zip(texts, row, decisions, strict=True)
            ]
            for texts, row, decisions in zip(split, told, evidence, strict=True)
        ]

    def _why(self, provenance: Provenance) -> str | None:
        """Return why a sentence is not supported, or None."""
        wanted, found = self.config.experts, provenance.experts
        if found >= wanted:
            return None
        return "no expert supports it" if found == 0 else f"{found} of the {wanted} experts that it needs support it"

    def apply(self, sentences: Sequence[Sentence]) -> Verified:
        """Return what stays of a paragraph by the mode `none`, `flag` or `drop`; `rewrite` drops here."""
        if self.config.mode in ("none", "flag"):
            return Verified(tuple(sentences))
        kept = tuple(one for one in sentences if one.is_supported)
        return Verified(kept, tuple(one for one in sentences if not one.is_supported))

    def apply_after_rewriting(self, before: Sequence[Sentence], after: Sequence[Sentence]) -> Verified:
        """Return what stays of a rewritten paragraph, with the sentences for which it was given back."""
        return replace(self.apply(after), rewritten=tuple(one for one in before if not one.is_supported))
