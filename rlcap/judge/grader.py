"""A grader: asks a judge about captions and reads its replies. It holds the prompt template, the cache and the judge together.

    grader = Grader(load_backend("openai:gpt-4o-mini"), PromptTemplate.read("prompt.txt"), ReplyCache(":memory:"))
    graded, usage = await grader.grade(captions, samples)

A grader of another kind says what its template is filled with (`prompt_fields`), what it can judge a sample by (`has_material`), and
how a reply is read (`parse`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from rlcap.errors import ConfigError, ImageError, ReplyFormatError
from rlcap.io.cache import content_hash
from rlcap.io.images import content_key, open_image
from rlcap.judge.backends.base import JudgeBackend, JudgeRequest
from rlcap.judge.cache import ReplyCache
from rlcap.judge.image_crops import ImageCrops, crop_image, detected_text
from rlcap.judge.judge import Judge, RetryPolicy
from rlcap.judge.limits import JudgeLimits
from rlcap.judge.parsing import parse_verdict
from rlcap.judge.templates import PromptTemplate, delimit
from rlcap.judge.usage import UsageStats
from rlcap.types import Sample, says_something

IMAGE_SIDE = 1024
"""Longest side of an image that is sent to a judge, in pixels."""


@dataclass(frozen=True, slots=True)
class GradedCaption:
    """What the judge says of one caption: a verdict, or the reason why there is none."""

    verdict: Any
    """What `Grader.parse` makes of the reply, or None."""
    reason: str | None = None
    """Why there is no verdict."""
    reply: str | None = None
    """The judge's own words, also where they could not be read."""
    caption: str = ""
    """The caption that was judged."""


@dataclass(frozen=True, slots=True)
class GradingUsage:
    """What grading a batch took."""

    judge: UsageStats
    """Calls, tokens and latency of the judge."""
    cache_hits: float
    """Share of the distinct requests that were found in the cache, in [0, 1]."""


class Grader:
    """Asks a judge about captions.

    Args:
        backend: what answers.
        template: the prompt.
        cache: where replies are kept.
        sampling: parameters of every call.
        image: whether a backend that accepts images is given the image.
        retry_policy: timeouts, retries and concurrency.
        version: part of the cache key, for whatever else changes what a reply means.
        limits: rates and budget.
        crops: which crops of the image the judge is shown beside the whole image.
        detections: whether the judge is told the class names in `meta["detected"]`.

    Raises:
        ConfigError: where crops are asked for and the judge is not given the image.
    """

    def __init__(
        self,
        backend: JudgeBackend,
        template: PromptTemplate,
        cache: ReplyCache,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        retry_policy: RetryPolicy | None = None,
        version: str = "1",
        limits: JudgeLimits | None = None,
        crops: ImageCrops | None = None,
        detections: bool = False,
    ) -> None:
        self.backend, self.template, self.cache, self.version = backend, template, cache, version
        self.sampling, self.judge = dict(sampling or {}), Judge(backend, retry_policy, limits)
        self.sees_image = image and backend.accepts_images
        self.crops, self.detections = crops, detections
        if crops is not None and not self.sees_image:
            raise ConfigError(f"crops need a judge that is given the image; {backend.name} is not")

    def prompt_fields(self, caption: str, sample: Sample) -> dict[str, str]:
        """Return the texts for the template's {fields}."""
        known = "\n".join(f"- {text}" for text in sample.references if says_something(text)) or "(nothing was written)"
        references = delimit("references", known) + self.detections_text(sample)
        return {"references": references, "caption": delimit("caption", caption)}

    def detections_text(self, sample: Sample) -> str:
        """Return what a detector found, to follow what is known of the image; "" unless `detections` is set.

        Raises:
            CropError: where `meta["detected"]` is no list of texts.
        """
        detected = detected_text(sample) if self.detections else ""
        return f"\n\nWhat a detector found in the image (it may be wrong):\n{detected}" if detected else ""

    def has_material(self, sample: Sample) -> bool:
        """Whether there is something to judge by, for a judge that does not see the image."""
        return any(says_something(text) for text in sample.references)

    def parse(self, reply: str, sample: Sample) -> Any:
        """Read a reply.

        Raises:
            ReplyFormatError: where it lacks the required form.
        """
        return parse_verdict(reply)

    async def grade(
        self, captions: Sequence[str], samples: Sequence[Sample]
    ) -> tuple[list[GradedCaption], GradingUsage]:
        """Judge N captions of N samples.

        Equal captions of one image are judged once, and replies that can be read are cached. An image that can't be opened costs only its
        own captions.

        Raises:
            JudgeError: where the backend can't work at all.
        """
        keys, graded = self._keys(captions, samples)
        first_row = {key: i for i, key in reversed(list(enumerate(keys))) if key is not None}
        distinct = sorted(first_row, key=first_row.__getitem__)
        by_key = {
            key: self._read(reply, captions[first_row[key]], samples[first_row[key]])
            for key, reply in self.cache.get(distinct).items()
        }
        cache_hits = len(by_key) / len(distinct) if distinct else 0.0

        requests: dict[str, JudgeRequest] = {}
        pictures: dict[str, tuple[str | bytes, ...]] = {}  # each image is encoded once for all its captions
        for key in distinct:
            if key not in by_key:
                caption, sample = captions[first_row[key]], samples[first_row[key]]
                try:
                    requests[key] = self._request(caption, sample, pictures)
                except ImageError as error:
                    by_key[key] = GradedCaption(None, str(error), caption=caption)
        answers, usage = await self.judge.ask(list(requests.values()))
        for key, answer in zip(requests, answers, strict=True):
            caption, sample = captions[first_row[key]], samples[first_row[key]]
            if answer.reply is None:
                by_key[key] = GradedCaption(None, answer.reason, caption=caption)
            elif answer.parsed is None:  # not cached: a sampled reply may have another form next time
                by_key[key] = self._read(answer.reply, caption, sample)
            else:
                by_key[key] = GradedCaption(answer.parsed, None, answer.reply, caption)
                self.cache.put(key, answer.reply)
        nothing = "no reference, and the judge sees no image"
        rows = [
            by_key[key] if key is not None else graded.get(i, GradedCaption(None, nothing, caption=captions[i]))
            for i, key in enumerate(keys)
        ]
        return rows, GradingUsage(usage, cache_hits)

    def _keys(
        self, captions: Sequence[str], samples: Sequence[Sample]
    ) -> tuple[list[str | None], dict[int, GradedCaption]]:
        """Return each row's cache key, None where it can't be judged, and the rows whose image can't be opened."""
        keys: list[str | None] = []
        unreadable: dict[int, GradedCaption] = {}
        for i, (caption, sample) in enumerate(zip(captions, samples, strict=True)):
            try:
                keys.append(self._key(caption, sample))
            except ImageError as error:
                keys.append(None)
                unreadable[i] = GradedCaption(None, str(error), caption=caption)
        return keys, unreadable

    def _key(self, caption: str, sample: Sample) -> str | None:
        """Return the cache key, made of everything that the reply depends on; None where the judge has nothing to go by."""
        reads_sample = self.backend.reads_sample
        if not (reads_sample or self.sees_image or self.has_material(sample)):
            return None
        meta = json.dumps(dict(sample.meta), sort_keys=True, default=str)
        return content_hash(
            version=self.version,
            prompt=[self.template.system, self.template.user],
            model=self.backend.name,
            sampling=self.sampling,
            image=content_key(sample.image) if self.sees_image else None,
            sample=[sample.id, meta] if reads_sample else None,
            references=list(sample.references),
            caption=caption,
            fields=self.prompt_fields(caption, sample),
            **(self.crops.cache_key(sample) if self.crops else {}),
        )

    def _request(self, caption: str, sample: Sample, pictures: dict[str, tuple[str | bytes, ...]]) -> JudgeRequest:
        parts: tuple[str | bytes, ...] = (self.template.fill(self.prompt_fields(caption, sample)),)
        if self.sees_image:
            picture = content_hash(
                image=content_key(sample.image), **(self.crops.cache_key(sample) if self.crops else {})
            )
            if picture not in pictures:
                pictures[picture] = image_parts(sample, self.crops)
            parts += pictures[picture]
        return JudgeRequest(parts, self.template.system, sample, lambda reply: self.parse(reply, sample), self.sampling)

    def _read(self, reply: str, caption: str, sample: Sample) -> GradedCaption:
        try:
            return GradedCaption(self.parse(reply, sample), None, reply, caption)
        except ReplyFormatError as error:
            return GradedCaption(None, f"unparseable verdict: {error}", reply, caption)


def image_parts(sample: Sample, crops: ImageCrops | None = None) -> tuple[str | bytes, ...]:
    """Return the image, then the name and the picture of each crop, all pictures as JPEG.

    The image's longest side is `IMAGE_SIDE` pixels at most.

    Raises:
        ImageError: where the image can't be opened.
    """
    image = open_image(sample.image)
    shown = crops.of_sample(sample) if crops else []
    parts = [
        part
        for crop in shown
        if crops is not None
        for part in (crop.name, to_jpeg(crop_image(image, crop.box, crops.longest)))
    ]
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    return (to_jpeg(image), *parts)


def to_jpeg(image: Image.Image) -> bytes:
    """Encode an image as JPEG, which every provider accepts."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
