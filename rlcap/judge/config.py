"""The configuration of a judge: which backend, how it is asked, and within which limits.

Every reward that asks a judge has one parameter for all of it:

    critique:
      reward: critique
      params:
        judge: openai:gpt-4o-mini                        # the backend alone, or:
        judge:
          backend: {type: openai, model: gpt-4o-mini, accepts_images: true}
          timeout: 30
          limits: {dollars: 5.0}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from rlcap.config.section import Section
from rlcap.errors import ConfigError
from rlcap.judge.backends.base import JudgeBackend
from rlcap.judge.image_crops import ImageCrops
from rlcap.judge.judge import RetryPolicy
from rlcap.judge.limits import JudgeLimits


class JudgeConfig(Section):
    """How a reward asks its judge."""

    backend: Any
    """`openai:MODEL`, `litellm:PROVIDER/MODEL`, `transformers:PATH`, `textgrad:MODEL`, `module:Class`, a mapping {type: …, parameters}, or a
    backend object. See `rlcap.judge.backends.loading`."""
    prompt: str | None = None
    """Path of a prompt file in place of the reward's own. It must have the same {fields}."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """Parameters of every call, such as {temperature: 0.7}."""
    image: bool | None = None
    """Whether a backend that accepts images is given the image; null takes the reward's default."""
    crops: ImageCrops | None = None
    """Which crops of the image the judge is shown beside the whole image; null for none."""
    detections: bool = False
    """Whether the judge is told the class names in `meta["detected"]`."""
    cache: str | None = None
    """The sqlite file that keeps replies; `:memory:` keeps none on disk; null takes one in the cache folder."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a call may take. Waiting for a free place does not count."""
    retries: Annotated[int, Field(ge=0)] = 3
    """Further calls after a failure that may pass."""
    backoff: Annotated[float, Field(ge=0)] = 1.0
    """Seconds before the first retry. They double each time and are multiplied by a random factor in [0.5, 1.5]."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Calls under way at once."""
    limits: JudgeLimits = Field(default_factory=JudgeLimits)
    """Requests and tokens a minute, dollars and tokens in all, and when a judge counts as down."""

    @classmethod
    def of(cls, given: JudgeSpec) -> JudgeConfig:
        """Return the configuration that was given in any of its forms.

        Raises:
            ConfigError: names every unknown key and every value that is out of range.
        """
        if isinstance(given, JudgeConfig):
            return given
        if isinstance(given, Mapping) and "backend" in given:
            return cls.parse(given, "judge")
        if given is None or (isinstance(given, Mapping) and "type" not in given):
            raise ConfigError(
                f"judge needs a backend: judge: openai:gpt-4o-mini, or {{backend: …, timeout: 30}}; got {given!r:.80}"
            )
        return cls(backend=given)

    @property
    def retry_policy(self) -> RetryPolicy:
        """The part that says how long and how often to try."""
        return RetryPolicy(self.timeout, self.retries, self.backoff, self.concurrency)


JudgeSpec = JudgeConfig | JudgeBackend | Mapping[str, Any] | str | None
"""What a parameter `judge` may be."""
