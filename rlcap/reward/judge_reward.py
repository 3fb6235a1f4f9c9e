"""A reward that asks a judge: from captions to requests, and from graded captions to scores.

    class Kind(JudgeReward):
        name, range = "kind", (0.0, 1.0)
        prompt_file = Path(__file__).parent / "prompt.txt"

        def score_verdict(self, verdict: Verdict, sample: Sample) -> Score:
            return Score(verdict.score / 10, note=verdict.text())

Its one parameter `judge` says everything about the judge: backend, prompt, cache, timeouts and limits (`rlcap.judge.config`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rlcap.errors import ConfigError
from rlcap.io.cache import cache_folder
from rlcap.judge.backends.loading import load_backend
from rlcap.judge.cache import ReplyCache
from rlcap.judge.config import JudgeConfig, JudgeSpec
from rlcap.judge.grader import GradedCaption, Grader
from rlcap.judge.templates import PromptTemplate
from rlcap.reward.base import Reward, RewardOutput
from rlcap.types import RewardBatch, Sample, Score, Span


class JudgeReward(Reward):
    """Base class of rewards that ask a judge. The empty caption gets the range's lowest value, and nobody is asked.

    Args:
        judge: the judge's configuration, or its backend alone.

    Raises:
        ConfigError: for a configuration that can't be used, a prompt file with other fields than the reward fills, or an option that
            has no effect with this reward.
    """

    name = "judge"
    prompt_file: Path
    """The reward's own prompt."""
    cache_file: ClassVar[str | None] = None
    """Name of the file in the cache folder, unless `judge.cache` names one; by default the reward's name."""
    grader_kind: type[Grader] = Grader
    """Fills the prompt and reads the replies."""
    shows_image: ClassVar[bool | None] = None
    """Whether a judge that accepts images is shown the image by default; None where it never is."""
    uses_detections: ClassVar[bool] = False
    """Whether the prompt can hold the class names in `meta["detected"]`."""

    def __init__(self, judge: JudgeSpec) -> None:
        config = JudgeConfig.of(judge)
        self._check_options(config)
        self.grader = self.grader_kind(
            load_backend(config.backend),
            self._template(config.prompt),
            ReplyCache(config.cache or cache_folder() / (self.cache_file or f"{self.name}.sqlite")),
            sampling=config.sampling,
            image=bool(self.shows_image if config.image is None else config.image),
            retry_policy=config.retry_policy,
            version=self.version,
            limits=config.limits,
            crops=config.crops,
            detections=config.detections,
        )
        self.judges = (self.grader.judge,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.aggregate is JudgeReward.aggregate and cls.score_verdict is JudgeReward.score_verdict:
            raise TypeError(
                f"{cls.__name__} judges nothing: write `score_verdict(self, verdict, sample)`, or `aggregate`"
            )

    def build_requests(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """Return what the grader is asked about a caption: here, the caption itself. An empty list abstains by `aggregate`."""
        return [(caption, sample)]

    def aggregate(self, graded: Sequence[GradedCaption], sample: Sample) -> Score:
        """Return the score of a caption from the graded captions of its `build_requests`.

        Here it is what `score_verdict` makes of the only verdict, or an abstention with the reason why there is none.
        """
        if graded[0].verdict is None:
            return Score.abstain(str(graded[0].reason), note=graded[0].reply)
        score = self.score_verdict(graded[0].verdict, sample)
        return replace(score, spans=self.find_spans(graded[0].verdict, graded[0].caption, sample))

    def find_spans(self, verdict: Any, caption: str, sample: Sample) -> tuple[Span, ...] | None:
        """Return what a verdict says of parts of the caption; here None, as it says nothing of any.

        `rlcap.scorers.text.alignment.locate` finds the part that a judge's words are about.
        """
        return None

    def score_verdict(self, verdict: Any, sample: Sample) -> Score:
        """Return the score for a verdict, which is what `grader_kind.parse` returns."""
        raise TypeError(f"{type(self).__name__} scores no single verdict")

    async def ascore(self, batch: RewardBatch) -> RewardOutput:
        """Score a batch of captions."""
        rows = [i for i, caption in enumerate(batch.captions) if caption]
        requests = [(i, request) for i in rows for request in self.build_requests(batch.captions[i], batch.samples[i])]
        graded, usage = await self.grader.grade(
            [caption for _, (caption, _) in requests], [sample for _, (_, sample) in requests]
        )
        graded_of: dict[int, list[GradedCaption]] = {i: [] for i in rows}
        for (i, _), one in zip(requests, graded, strict=True):
            graded_of[i].append(one)
        empty = Score(self.range[0], note="The caption is empty.")
        scores = [
            self.aggregate(graded_of[i], sample) if i in graded_of else empty for i, sample in enumerate(batch.samples)
        ]
        return RewardOutput(scores, {"cache_hits": usage.cache_hits}, usage.judge)

    def _template(self, path: str | None) -> PromptTemplate:
        own = PromptTemplate.read(self.prompt_file)
        if path is None:
            return own
        template = PromptTemplate.read(path)
        if template.fields != own.fields:
            names = [", ".join(f"{{{name}}}" for name in sorted(t.fields)) or "none" for t in (own, template)]
            raise ConfigError(f"{path}: {self.name} fills the fields {names[0]}, the file has {names[1]}")
        return template

    def _check_options(self, config: JudgeConfig) -> None:
        """Refuse options that this reward would silently ignore."""
        if self.shows_image is None and (config.image or config.crops is not None):
            raise ConfigError(
                f"judge.image and judge.crops have no effect: {self.name} never shows its judge the image"
            )
        if config.detections and not self.uses_detections:
            raise ConfigError(f"judge.detections has no effect: the prompt of {self.name} has no place for them")
