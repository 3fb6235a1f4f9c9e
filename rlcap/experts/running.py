"""Runs an expert: cached by the content of the image, and one broken image costs only itself.

    panel = ExpertPanel(preset.experts, ReplyCache(path))
    found = panel.describe(samples)              # per sample its statements, or the error of its image

The statements of a batch are stored in one transaction. So a run that is killed and started again asks an expert about the same batch or
not at all, and its results are the same to the last bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlcap.errors import ConfigError, ImageError
from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.experts.loading import ExpertConfig, identity, load_expert
from rlcap.io.cache import content_hash
from rlcap.io.images import content_key
from rlcap.judge.cache import ReplyCache
from rlcap.types import Sample

Found = list[Statement] | ImageError
"""The statements about an image, or why it can't be read."""


@dataclass(slots=True)
class ExpertUsage:
    """What an expert did in this process."""

    images: int = 0
    """Images that were asked about."""
    cached: int = 0
    """Images whose statements were in the cache."""
    statements: int = 0
    """Statements that were returned."""
    seconds: float = 0.0
    """Seconds in the expert."""


class ExpertPanel:
    """The experts of a preset, in order: later ones may read what earlier ones said.

    Args:
        configs: Name → entry of the preset.
        cache: Where statements are kept.

    Raises:
        ConfigError: An entry names no expert, or has wrong parameters.
    """

    def __init__(self, configs: Mapping[str, ExpertConfig], cache: ReplyCache) -> None:
        self.configs, self.cache = dict(configs), cache
        self.experts = {name: load_expert(name, config) for name, config in configs.items()}
        self.usage = {name: ExpertUsage() for name in configs}
        self._identities = {name: identity(config, self.experts[name]) for name, config in configs.items()}

    def describe(self, samples: Sequence[Sample]) -> list[Found]:
        """Return the statements about N images, in the order of the experts, or the error of an image that can't be read."""
        found: list[Found] = [_check(sample) or [] for sample in samples]
        for name, expert in self.experts.items():
            rows = [i for i, one in enumerate(found) if not isinstance(one, ImageError)]
            inputs = [ExpertInput(samples[i], tuple(_statements(found[i]))) for i in rows]
            for i, one in zip(rows, self._ask(name, expert, inputs), strict=True):
                found[i] = one if isinstance(one, ImageError) else [*_statements(found[i]), *one]
        return found

    def _ask(self, name: str, expert: Expert, inputs: Sequence[ExpertInput]) -> list[Found]:
        keys = [self._key(name, expert, one) for one in inputs]
        stored = self.cache.get(list(dict.fromkeys(keys)))
        missing = {key: one for key, one in zip(keys, inputs, strict=True) if key not in stored}
        started = time.monotonic()
        fresh = _describe(name, expert, list(missing.values()))
        answers: dict[str, Found] = {key: _parse(text) for key, text in stored.items()}
        answers |= dict(zip(missing, fresh, strict=True))
        self.cache.put_all({key: _dump(one) for key, one in zip(missing, fresh, strict=True) if isinstance(one, list)})
        found = [self._select(name, answers[key]) for key in keys]
        usage = self.usage[name]
        usage.seconds += time.monotonic() - started
        usage.images += len(inputs)
        usage.cached += len(inputs) - len(missing)
        usage.statements += sum(len(one) for one in found if isinstance(one, list))
        return found

    def _key(self, name: str, expert: Expert, one: ExpertInput) -> str:
        sample = one.sample
        row = [list(sample.references), sample.paragraph, json.dumps(dict(sample.meta), sort_keys=True, default=str)]
        return content_hash(
            expert=self._identities[name],
            image=content_key(sample.image),
            row=[sample.id, *row] if expert.reads_row else None,
            known=[statement.to_json() for statement in one.known] if expert.reads_known else None,
        )

    def _select(self, name: str, found: Found) -> Found:
        """Return the statements under the expert's name, without those that the preset's entry leaves out."""
        if isinstance(found, ImageError):
            return found
        config = self.configs[name]
        kept = [one for one in found if config.min_score is None or one.score is None or one.score >= config.min_score]
        if config.most is not None and len(kept) > config.most:
            best = sorted(range(len(kept)), key=lambda i: -(kept[i].score or 0.0))[: config.most]
            kept = [kept[i] for i in sorted(best)]
        return [replace(one, source=name) for one in kept]


def _check(sample: Sample) -> ImageError | None:
    """Return the error of an image file that can't be read at all."""
    try:
        content_key(sample.image)
    except ImageError as error:
        return error
    return None


def _statements(found: Found) -> list[Statement]:
    return found if isinstance(found, list) else []


def _describe(name: str, expert: Expert, inputs: Sequence[ExpertInput]) -> list[Found]:
    """Ask an expert about a batch; where an image is broken, about each image alone.

    Raises:
        ConfigError: The expert returned another number of lists than it was given images.
    """
    if not inputs:
        return []
    try:
        found: list[Found] = list(expert.describe(inputs))
    except ImageError as error:
        if len(inputs) == 1:
            return [error]
        return [one for alone in inputs for one in _describe(name, expert, [alone])]
    if len(found) != len(inputs):
        raise ConfigError(
            f"experts.{name}: {type(expert).__name__}.describe returned {len(found)} lists for {len(inputs)} images; return "
            "a list for each image, empty where there is nothing to say"
        )
    return found


def _dump(statements: Sequence[Statement]) -> str:
    return json.dumps([one.to_json() for one in statements], ensure_ascii=False)


def _parse(text: str) -> list[Statement]:
    return [Statement.from_json(row) for row in json.loads(text)]
