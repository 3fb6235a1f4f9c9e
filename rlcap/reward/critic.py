"""A critic: reads captions, writes verdicts. Prompt, engine, cache and patience in one place.

critic = Critic(engine, Prompt.read("critique.txt"), ReplyCache(":memory:"))
for opinion in await critic.read(captions, samples): ...
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlcap.reward.cache import ReplyCache, content_hash
from rlcap.reward.judge import Patience, Question, ask
from rlcap.reward.prompt import Prompt, fence
from rlcap.reward.verdict import Verdict, VerdictError, parse
from rlcap.types import Sample

IMAGE_SIDE = 1024
"""Longest side of an image sent to a judge, in pixels."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the critic says of one caption: a verdict, or the reason why there is none."""

    verdict: Verdict | None
    reason: str | None = None
    reply: str | None = None
    """The engine's own words, also where they could not be parsed."""


class Critic:
    """engine: see `rlcap.reward.judge`. sampling: passed to every call. image: whether an engine that can see gets the
    image. version: part of the cache key, for whatever else changes what a reply means."""

    def __init__(
        self,
        engine: Any,
        prompt: Prompt,
        cache: ReplyCache,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        patience: Patience | None = None,
        version: str = "1",
    ) -> None:
        self.engine, self.prompt, self.cache, self.version = engine, prompt, cache, version
        self.sampling, self.patience = dict(sampling or {}), patience or Patience()
        self.sees = image and bool(getattr(engine, "is_multimodal", False))
        self.knows = bool(getattr(engine, "accepts_sample", False))
        self.cache_hits = 0.0
        """Share of the distinct captions read last that were in the cache."""

    async def read(self, captions: Sequence[str], samples: Sequence[Sample]) -> list[Opinion]:
        """One opinion a caption. Equal captions of one image are judged once; parsed replies are cached.

        Raises JudgeError where the engine can't work at all.
        """
        keys = [self._key(caption, sample) for caption, sample in zip(captions, samples, strict=True)]
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                first.setdefault(key, i)
        opinions = {key: _opinion(reply) for key, reply in self.cache.get(list(first)).items()}
        self.cache_hits = len(opinions) / len(first) if first else 0.0
        open_keys = [key for key in first if key not in opinions]
        questions = [self._question(captions[first[key]], samples[first[key]]) for key in open_keys]
        answers = await ask(self.engine, questions, self.sampling, self.patience)
        for key, answer in zip(open_keys, answers, strict=True):
            if answer.reply is None:
                opinions[key] = Opinion(None, answer.reason)
                continue
            opinions[key] = _opinion(answer.reply)
            if opinions[key].verdict is not None:  # a broken reply may be a mood of the sampler: ask again next time
                self.cache.put(key, answer.reply)
        blind = Opinion(None, "no reference, and the judge sees no image")
        return [blind if key is None else opinions[key] for key in keys]

    def _key(self, caption: str, sample: Sample) -> str | None:
        """The cache key: everything that the reply depends on. None where the judge would have nothing to go by."""
        if not (self.knows or self.sees or any(text.strip() for text in sample.references)):
            return None
        return content_hash(
            version=self.version,
            prompt=[self.prompt.system, self.prompt.user],
            model=self.engine.model_string,
            sampling=self.sampling,
            image=_image_key(sample) if self.sees else None,
            sample=[sample.id, json.dumps(dict(sample.meta), sort_keys=True, default=str)] if self.knows else None,
            references=list(sample.references),
            caption=caption,
        )

    def _question(self, caption: str, sample: Sample) -> Question:
        known = "\n".join(f"- {text}" for text in sample.references if text.strip()) or "(nothing was written)"
        text = self.prompt.fill({"references": fence("references", known), "caption": fence("caption", caption)})
        content = [text, _image_bytes(sample)] if self.sees else text
        return Question(content, self.prompt.system, sample)


def _opinion(reply: str) -> Opinion:
    try:
        return Opinion(parse(reply), None, reply)
    except VerdictError as error:
        return Opinion(None, f"unparseable verdict: {error}", reply)


def _image_key(sample: Sample) -> str:
    from rlcap.scorers.images import content_key

    return content_key(sample.image)


def _image_bytes(sample: Sample) -> bytes:
    """The image as JPEG, its longest side at most IMAGE_SIDE: what every provider takes."""
    from rlcap.scorers.images import open_image

    image = open_image(sample.image)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
