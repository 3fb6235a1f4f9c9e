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

from PIL import Image

from rlcap.errors import ConfigError, ImageError, ReplyFormatError
from rlcap.io.images import content_key, open_image
from rlcap.judge.cache import ReplyCache, content_hash
from rlcap.judge.image_crops import Views, crop, detected_text
from rlcap.judge.judge import Judge, Question, RetryPolicy
from rlcap.judge.limits import Limits
from rlcap.judge.parsing import parse
from rlcap.judge.templates import Prompt, delimit
from rlcap.types import Sample

IMAGE_SIDE = 1024
"""Longest side of an image sent to a judge, in pixels."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the critic says of one caption: a verdict, or the reason why there is none."""

    verdict: Any
    """What `Critic.parse` makes of the reply (a `Verdict`), or None."""
    reason: str | None = None
    reply: str | None = None
    """The engine's own words, also where they could not be parsed."""
    caption: str = ""
    """What was read."""


class Critic:
    """engine: see `rlcap.judge.judge`. sampling: passed to every call. image: whether an engine that can see gets the
    image. version: part of the cache key, for whatever else changes what a reply means. views: parts of the image that it is
    shown beside the whole, for which it must see (ConfigError). detected: whether the classes in `meta["detected"]` are told.

    Another kind of critic says what its prompt is filled with (`fields`), what of a sample it can judge by (`known`), and
    how its replies are read (`parse`).
    """

    def __init__(
        self,
        engine: Any,
        prompt: Prompt,
        cache: ReplyCache,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        retry_policy: RetryPolicy | None = None,
        version: str = "1",
        limits: Limits | None = None,
        views: Views | None = None,
        detected: bool = False,
    ) -> None:
        self.engine, self.prompt, self.cache, self.version = engine, prompt, cache, version
        self.sampling, self.judge = dict(sampling or {}), Judge(engine, retry_policy, limits)
        self.sees = image and bool(getattr(engine, "is_multimodal", False))
        self.knows = bool(getattr(engine, "accepts_sample", False))
        self.views, self.detected = views, detected
        if views is not None and not self.sees:
            raise ConfigError(f"views need a judge that is given the image; {engine.model_string} is not")
        self.cache_hits = 0.0
        """Share of the distinct captions read last that were in the cache."""

    def fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """What stands in the prompt's {fields}."""
        known = "\n".join(f"- {text}" for text in sample.references if text.strip()) or "(nothing was written)"
        return {
            "references": delimit("references", known) + self.objects(sample),
            "caption": delimit("caption", caption),
        }

    def objects(self, sample: Sample) -> str:
        """What a detector found, to stand below what is known; "" unless asked for. CropError where it is no list."""
        told = detected_text(sample) if self.detected else ""
        return f"\n\nWhat a detector found in the image (it may be wrong):\n{told}" if told else ""

    def known(self, sample: Sample) -> bool:
        """Whether there is something to judge by, for an engine that sees nothing."""
        return any(text.strip() for text in sample.references)

    def parse(self, reply: str, sample: Sample) -> Any:
        """A reply as a verdict. ReplyFormatError where it is none."""
        return parse(reply)

    async def read(self, captions: Sequence[str], samples: Sequence[Sample]) -> list[Opinion]:
        """One opinion a caption. Equal captions of one image are judged once; parsed replies are cached.

        An image that can't be read costs its own captions alone. Raises JudgeError where the engine can't work at all.
        """
        keys: list[str | None] = []
        blind: dict[int, Opinion] = {}
        for i, (caption, sample) in enumerate(zip(captions, samples, strict=True)):
            try:
                keys.append(self._key(caption, sample))
            except ImageError as error:
                keys.append(None)
                blind[i] = Opinion(None, str(error), caption=caption)
        first: dict[str, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                first.setdefault(key, i)
        cached = self.cache.get(list(first))
        opinions = {
            key: self._opinion(reply, captions[first[key]], samples[first[key]]) for key, reply in cached.items()
        }
        self.cache_hits = len(opinions) / len(first) if first else 0.0
        open_keys = [key for key in first if key not in opinions]
        questions = {}
        pictures: dict[str, list[str | bytes]] = {}  # each is encoded once, for all its captions
        for key in open_keys:
            try:
                questions[key] = self._question(captions[first[key]], samples[first[key]], pictures)
            except ImageError as error:
                opinions[key] = Opinion(None, str(error), caption=captions[first[key]])
        answers = await self.judge.ask(list(questions.values()), self.sampling)
        for key, answer in zip(questions, answers, strict=True):
            if answer.reply is None:
                opinions[key] = Opinion(None, answer.reason, caption=captions[first[key]])
                continue
            if answer.read is None:  # a broken reply may be a mood of the sampler: ask again next time
                opinions[key] = self._opinion(answer.reply, captions[first[key]], samples[first[key]])
                continue
            opinions[key] = Opinion(answer.read, None, answer.reply, captions[first[key]])
            self.cache.put(key, answer.reply)
        nothing = "no reference, and the judge sees no image"
        return [
            opinions[key] if key is not None else blind.get(i, Opinion(None, nothing, caption=captions[i]))
            for i, key in enumerate(keys)
        ]

    def _key(self, caption: str, sample: Sample) -> str | None:
        """The cache key: everything that the reply depends on. None where the judge would have nothing to go by."""
        if not (self.knows or self.sees or self.known(sample)):
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
            fields=self.fields(caption, sample),
            **(self.views.key(sample) if self.views else {}),
        )

    def _question(self, caption: str, sample: Sample, pictures: dict[str, list[str | bytes]]) -> Question:
        text = self.prompt.fill(self.fields(caption, sample))
        content: str | list[str | bytes] = text
        if self.sees:
            name = content_hash(image=_image_key(sample), **(self.views.key(sample) if self.views else {}))
            if name not in pictures:
                pictures[name] = _shown(sample, self.views)
            content = [text, *pictures[name]]
        return Question(content, self.prompt.system, sample, lambda reply: self.parse(reply, sample))

    def _opinion(self, reply: str, caption: str, sample: Sample) -> Opinion:
        try:
            return Opinion(self.parse(reply, sample), None, reply, caption)
        except ReplyFormatError as error:
            return Opinion(None, f"unparseable verdict: {error}", reply, caption)


def _image_key(sample: Sample) -> str:
    return content_key(sample.image)


def _shown(sample: Sample, views: Views | None) -> list[str | bytes]:
    """The image, its longest side at most IMAGE_SIDE, then each view's name and the view, all as JPEG."""
    image = open_image(sample.image)
    found = views.of_sample(sample) if views else []
    parts = [part for view in found for part in (view.name, _jpeg(crop(image, view.box, views.longest)))]
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return [_jpeg(image), *parts]


def _jpeg(image: Image.Image) -> bytes:
    """What every provider takes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
