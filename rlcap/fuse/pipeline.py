"""The way of one batch: experts, ranking, fuser, provenance, verification, rows.

pipeline = Pipeline(load_preset("fusecap"))
for outcome in pipeline.fuse(samples): ...        # a row, or why there is none
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcap.errors import ImageError
from rlcap.experts.running import ExpertPanel
from rlcap.experts.statement import Statement
from rlcap.fuse.fuser import Call, Fuser, Reply
from rlcap.fuse.preset import Preset
from rlcap.fuse.prompt import FusionPrompt, RewritePrompt
from rlcap.fuse.ranking import Ranking
from rlcap.fuse.support import load_support
from rlcap.fuse.verification import Sentence, Verified, Verifier
from rlcap.io.cache import cache_folder
from rlcap.judge.cache import ReplyCache
from rlcap.types import Sample

NO_STATEMENT = "no expert says anything of the image"
NO_SENTENCE = "no sentence is left after the verification"


@dataclass(frozen=True, slots=True)
class Failure:
    """An image without a paragraph."""

    id: str
    reason: str
    """Why there is no paragraph."""
    is_final: bool = True
    """Whether another attempt would end in the same way."""


@dataclass(slots=True)
class _Draft:
    """An image on its way to a paragraph."""

    sample: Sample
    statements: list[Statement] = field(default_factory=list)
    left_out: list[Statement] = field(default_factory=list)
    sentences: list[Sentence] = field(default_factory=list)
    verified: Verified | None = None
    failure: Failure | None = None

    def fail(self, reason: str, is_final: bool = True) -> None:
        self.failure = Failure(self.sample.id, reason, is_final)


class Pipeline:
    """Makes rows from samples, as a preset says.

    Args:
        preset: The preset.
        cache: The sqlite file of the experts' statements; None takes one in the cache folder, `:memory:` keeps none on disk.

    Raises:
        ConfigError: An expert, the ranking, a prompt, the fuser or the support can't be used.
    """

    def __init__(self, preset: Preset, cache: str | Path | None = None) -> None:
        self.preset = preset
        self.prompt = FusionPrompt(preset.prompt, preset.experts)
        self.rewrite_prompt = RewritePrompt(preset.rewrite_prompt)
        self.verifier = Verifier(preset.verify, load_support(preset.support))
        self.experts = ExpertPanel(preset.experts, ReplyCache(cache or cache_folder() / "experts.sqlite"))
        self.ranking = Ranking(preset.ranking) if preset.ranking is not None else None
        self.fuser = Fuser(preset.judge(), preset.needs_image)

    def fuse(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Failure]:
        """Return, for each of N samples, the row of a data set with its paragraph, or why there is none.

        Raises:
            JudgeError: The fuser can't work at all.
        """
        drafts = [_Draft(sample) for sample in samples]
        self._ask_experts(drafts)
        self._write(_open(drafts))
        if self.preset.verify.mode == "rewrite":
            self._rewrite(_open(drafts))
        for draft in _open(drafts):
            draft.verified = draft.verified or self.verifier.apply(draft.sentences)
            if not draft.verified.sentences:
                draft.fail(NO_SENTENCE)
        return [draft.failure or self._row(draft) for draft in drafts]

    def _ask_experts(self, drafts: Sequence[_Draft]) -> None:
        for draft, found in zip(drafts, self.experts.describe([draft.sample for draft in drafts]), strict=True):
            if isinstance(found, ImageError):
                draft.fail(found.kind)
            elif not found:
                draft.fail(NO_STATEMENT)
            else:
                draft.statements = found
        remaining = _open(drafts)
        if self.ranking is not None and remaining:
            chosen = self.ranking.select([one.statements for one in remaining], [one.sample for one in remaining])
            for draft, (kept, left_out) in zip(remaining, chosen, strict=True):
                draft.statements, draft.left_out = kept, left_out

    def _write(self, drafts: Sequence[_Draft]) -> None:
        system = self.prompt.template.system
        calls = [Call(system, self.prompt.fill(one.statements), one.sample) for one in drafts]
        written = _settle(drafts, self.fuser.write(calls))
        told = [draft.statements for draft, _ in written]
        read = self.verifier.read([paragraph for _, paragraph in written], told)
        for (draft, _), sentences in zip(written, read, strict=True):
            draft.sentences = sentences

    def _rewrite(self, drafts: Sequence[_Draft]) -> None:
        """Give the paragraphs with unsupported sentences back once. Where the fuser refuses, these sentences are dropped."""
        wrong = [one for one in drafts if not all(sentence.is_supported for sentence in one.sentences)]
        evidence = set(self.preset.verify.evidence or self.preset.experts)
        system = self.rewrite_prompt.template.system
        calls = []
        for draft in wrong:
            told = [one for one in draft.statements if one.source in evidence]
            unsupported = [sentence.text for sentence in draft.sentences if not sentence.is_supported]
            paragraph = " ".join(sentence.text for sentence in draft.sentences)
            calls.append(Call(system, self.rewrite_prompt.fill(told, paragraph, unsupported), draft.sample))
        replies = self.fuser.write(calls)
        answered = []
        for draft, reply in zip(wrong, replies, strict=True):
            if reply.paragraph is not None:
                answered.append((draft, reply.paragraph))
            elif not reply.is_final:
                draft.fail(str(reply.reason), is_final=False)
        read = self.verifier.read([text for _, text in answered], [draft.statements for draft, _ in answered])
        for (draft, _), sentences in zip(answered, read, strict=True):
            draft.verified = self.verifier.apply_after_rewriting(draft.sentences, sentences)

    def _row(self, draft: _Draft) -> dict[str, Any]:
        assert draft.verified is not None  # `fuse` sets it on every draft that did not fail
        verified, sample = draft.verified, draft.sample
        marks = self.preset.verify.mode != "none"
        fusion: dict[str, Any] = {
            "sentences": [sentence.to_json(marks) for sentence in verified.sentences],
            "statements": [statement.to_json() for statement in draft.statements],
        }
        for key, sentences in (("dropped", verified.dropped), ("rewritten", verified.rewritten)):
            if sentences:
                fusion[key] = [sentence.to_json(True) for sentence in sentences]
        if draft.left_out:
            fusion["left_out"] = [statement.to_json() for statement in draft.left_out]
        meta: Mapping[str, Any] = {key: value for key, value in sample.meta.items() if key != "fusion"}
        return {
            "id": sample.id,
            "image": sample.image,
            "references": list(sample.references),
            "paragraph": verified.paragraph,
            **({"cluster": sample.cluster} if sample.cluster else {}),
            **meta,
            "fusion": fusion,
        }


def _open(drafts: Sequence[_Draft]) -> list[_Draft]:
    return [draft for draft in drafts if draft.failure is None]


def _settle(drafts: Sequence[_Draft], replies: Sequence[Reply]) -> list[tuple[_Draft, str]]:
    """Return the drafts that got a paragraph with it, and let the others fail."""
    written = []
    for draft, reply in zip(drafts, replies, strict=True):
        if reply.paragraph is None:
            draft.fail(str(reply.reason), reply.is_final)
        else:
            written.append((draft, reply.paragraph))
    return written
