"""Critique: an LLM's textual gradient, and a number from it.

measures  r = clip(score / 10 − penalty · #wrong, −1, 1): the judge's grade, less something for each wrong claim it lists
range     [-1, 1]
needs     references, or image and a judge that sees
cost      one LLM call a new caption; replies are cached on disk by content
source    TextGrad (arXiv 2406.07496): the critique is the "gradient" of a caption, here kept as `Score.note` for refinement;
          the verdict's form after CLAIR and DCScore (reason before number, wrong and missing apart)
hack      flattery and instructions to the judge (fenced as data, prompt.py); length, on which LLM judges are lenient; a
          caption that makes the judge break the format abstains, which gains nothing either
guards    length, hallucination; evaluation never asks this judge
fails     salad; by the lab's critic (8 %), which reads words charitably and takes hedges and praise for nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlcap.reward.base import Reward
from rlcap.reward.cache import ReplyCache, default_folder
from rlcap.reward.critic import Critic
from rlcap.reward.judge import Patience
from rlcap.reward.limits import Limits
from rlcap.reward.prompt import Prompt
from rlcap.reward.verdict import Verdict
from rlcap.types import RewardBatch, Score


def verdict_value(verdict: Verdict, penalty: float) -> float:
    """Grade 7 with two wrong claims at a penalty of .1 → .5."""
    return max(-1.0, min(1.0, verdict.score / 10 - penalty * len(verdict.wrong)))


class Critique(Reward):
    """engine: an EngineLM object, or what `rlcap.reward.engines.load_engine` takes (`litellm:openai/gpt-4o-mini`,
    `transformers:PATH`, `module:Class`, a mapping with parameters). penalty: off the value for each wrong claim; .1 makes
    one cost as much as a point of the grade. prompt: path of another prompt file. sampling: passed to every call.
    image: whether a multimodal engine gets the image. cache: sqlite file; `:memory:` for none on disk. limits: see `Limits`. The rest: `Patience`.

    The empty caption gets the lowest value without asking anyone.
    """

    name, version = "critique", "1"

    def __init__(
        self,
        engine: Any,
        penalty: float = 0.1,
        prompt: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        image: bool = True,
        cache: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 1.0,
        concurrency: int = 8,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(engine, str | Mapping):
            from rlcap.reward.engines import load_engine

            engine = load_engine(engine)
        self.penalty = penalty
        self.critic = Critic(
            engine,
            Prompt.read(prompt or Path(__file__).parent / "prompts" / "critique.txt"),
            ReplyCache(cache or default_folder() / "critiques.sqlite"),
            sampling,
            image,
            Patience(timeout, retries, backoff, concurrency),
            self.version,
            Limits.of(limits),
        )
        self.judges = (self.critic.judge,)

    async def ascore(self, batch: RewardBatch) -> list[Score]:
        rows = [i for i, caption in enumerate(batch.captions) if caption.strip()]
        opinions = await self.critic.read([batch.captions[i] for i in rows], [batch.samples[i] for i in rows])
        self.metrics = {"cache_hits": self.critic.cache_hits}
        scores = [Score(self.range[0], note="The caption is empty.")] * len(batch)
        for i, opinion in zip(rows, opinions, strict=True):
            if opinion.verdict is None:
                scores[i] = Score.abstain(str(opinion.reason), note=opinion.reply)
            else:
                scores[i] = Score(verdict_value(opinion.verdict, self.penalty), note=opinion.verdict.text())
        return scores
