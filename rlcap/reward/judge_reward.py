"""A reward that asks a judge: how it is set up, and the way from captions to questions and from opinions to scores.

    class Kind(Judged, Reward):
        name, range, version = "kind", (0.0, 1.0), "1"
        prompt_file = Path(__file__).parent / "prompt.txt"

        def value(self, verdict, sample):          # `Verdict`, or what another `critic_kind` reads
            return Score(verdict.score / 10, note=verdict.text())

A judge's prompt, engine, cache, patience and limits are parameters of every such reward, by the same names. One with
parameters of its own takes the common ones as `**asking` and hands them on.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rlcap.errors import ConfigError
from rlcap.judge.backends.loading import load_engine
from rlcap.judge.cache import ReplyCache, default_folder
from rlcap.judge.grader import Critic, Opinion
from rlcap.judge.image_crops import Views
from rlcap.judge.judge import Judge, RetryPolicy
from rlcap.judge.limits import Limits
from rlcap.judge.templates import Prompt
from rlcap.types import RewardBatch, Sample, Score


class Judged:
    """Stands before `Reward` among the bases. The empty caption gets the range's lowest value without asking anyone.

    engine: an EngineLM object, or what `rlcap.judge.backends.loading.load_engine` takes (`openai:MODEL`, `litellm:PROVIDER/MODEL`,
    `transformers:PATH`, `module:Class`, a mapping with parameters). prompt: path of another prompt file. sampling: passed
    to every call. cache: sqlite file; `:memory:` for none on disk. limits: see `Limits`. The rest: `RetryPolicy`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    range: ClassVar[tuple[float, float]]
    prompt_file: Path
    """What is asked, unless `prompt` names another file."""
    cache_file: ClassVar[str | None] = None
    """Name of the file in the cache's folder, unless `cache` names one; by default after the reward."""
    critic_kind: type[Critic] = Critic
    """Fills the prompt and reads the replies."""
    judges: Sequence[Judge]
    metrics: dict[str, float]

    def __init__(
        self,
        engine: Any,
        *,
        prompt: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        image: bool = False,
        views: Mapping[str, Any] | None = None,
        detected: bool = False,
        cache: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 1.0,
        concurrency: int = 8,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """image: whether an engine that sees is given the image. views: which parts of it beside (see `rlcap.judge.image_crops`).
        detected: whether the judge is told `meta["detected"]`. A reward whose judge may see offers them by itself."""
        self.critic = self.critic_kind(
            load_engine(engine),
            self._prompt(prompt),
            ReplyCache(cache or default_folder() / (self.cache_file or f"{self.name}.sqlite")),
            sampling,
            image,
            RetryPolicy(timeout, retries, backoff, concurrency),
            self.version,
            Limits.of(limits),
            Views.of(views),
            detected,
        )
        self.judges = (self.critic.judge,)

    def _prompt(self, own: str | None) -> Prompt:
        """The prompt file; ConfigError where one's own has other fields than the reward fills."""
        shipped = Prompt.read(self.prompt_file)
        if own is None:
            return shipped
        prompt = Prompt.read(own)
        if prompt.fields != shipped.fields:
            braces = [", ".join(f"{{{name}}}" for name in sorted(p.fields)) or "none" for p in (shipped, prompt)]
            raise ConfigError(f"{own}: {self.name} fills the fields {braces[0]}, the file has {braces[1]}")
        return prompt

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """The signature of a constructor with `**asking` names what may stand there: a mix checks `params` against it."""
        super().__init_subclass__(**kwargs)
        if cls.judged is Judged.judged and not hasattr(cls, "value"):
            raise TypeError(f"{cls.__name__} judges nothing: write `value(self, verdict, sample)`, or `judged`")
        own = vars(cls).get("__init__")
        parameters = inspect.signature(own).parameters if own is not None else {}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        common = dict(inspect.signature(Judged.__init__).parameters)
        for own_choice in ("image", "views", "detected"):
            common.pop(own_choice)
        said = [parameter for parameter in parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        own.__signature__ = inspect.Signature([*said, *(p for name, p in common.items() if name not in parameters)])
        own.__annotations__ = typing.get_type_hints(Judged.__init__) | own.__annotations__

    def asks(self, caption: str, sample: Sample) -> list[tuple[str, Sample]]:
        """What the critic is asked of a caption: here, one thing."""
        return [(caption, sample)]

    def judged(self, opinions: Sequence[Opinion], sample: Sample) -> Score:
        """The score of a caption, from one opinion on each of its `asks`: here, what the subclass's `value(verdict, sample)` makes
        of the one verdict, or an abstention."""
        opinion = opinions[0]
        if opinion.verdict is None:
            return Score.abstain(str(opinion.reason), note=opinion.reply)
        return self.value(opinion.verdict, sample)

    async def ascore(self, batch: RewardBatch) -> list[Score]:
        told = [i for i, caption in enumerate(batch.captions) if caption.strip()]
        asked = [(i, ask) for i in told for ask in self.asks(batch.captions[i], batch.samples[i])]
        read = await self.critic.read([caption for _, (caption, _) in asked], [sample for _, (_, sample) in asked])
        self.metrics = {"cache_hits": self.critic.cache_hits}
        opinions: dict[int, list[Opinion]] = {i: [] for i in told}
        for (i, _), opinion in zip(asked, read, strict=True):
            opinions[i].append(opinion)
        empty = Score(self.range[0], note="The caption is empty.")
        return [self.judged(opinions[i], sample) if i in opinions else empty for i, sample in enumerate(batch.samples)]
