"""Ranks the captions of an image by a reward, and keeps the best: the ranking of 2306.11593 with any image-text score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rlcap.experts.statement import Statement
from rlcap.fuse.preset import RankingConfig
from rlcap.reward.mix import RewardMix
from rlcap.types import RewardBatch, Sample

RANKED = ("caption", "region")
"""Kinds of statements that are ranked where the preset names no experts."""


class Ranking:
    """Keeps the best captions of each image.

    Args:
        config: The ranking of a preset.

    Raises:
        ConfigError: The reward is unknown, or its parameters are wrong.
    """

    def __init__(self, config: RankingConfig) -> None:
        self.config = config
        self._mix = RewardMix.from_config({"ranking": {"reward": config.reward, "params": config.params}})

    def select(
        self, statements: Sequence[Sequence[Statement]], samples: Sequence[Sample]
    ) -> list[tuple[list[Statement], list[Statement]]]:
        """Return, for each of N images, the statements that remain and those that are left out.

        A ranked statement gets the reward as its score. A caption on which the reward abstains comes last, and equals keep their order.
        Statements that are not ranked remain.
        """
        rows = [(i, j) for i, found in enumerate(statements) for j, one in enumerate(found) if self._is_ranked(one)]
        if not rows:
            return [(list(found), []) for found in statements]
        batch = RewardBatch([statements[i][j].text for i, j in rows], [samples[i] for i, _ in rows])
        scores = self._mix.score(batch).scores["ranking"]
        values: dict[tuple[int, int], float] = {
            row: -math.inf if score.value is None else score.value for row, score in zip(rows, scores, strict=True)
        }
        selected = []
        for i, found in enumerate(statements):
            ranked = [j for j in range(len(found)) if (i, j) in values]
            best = set(sorted(ranked, key=lambda j, i=i: -values[i, j])[: self.config.keep])  # type: ignore[misc]
            scored = [
                replace(one, score=values[i, j]) if math.isfinite(values.get((i, j), -math.inf)) else one
                for j, one in enumerate(found)
            ]
            kept = [scored[j] for j in range(len(found)) if j not in ranked or j in best]
            selected.append((kept, [scored[j] for j in ranked if j not in best]))
        return selected

    def _is_ranked(self, statement: Statement) -> bool:
        names = self.config.experts
        return statement.source in names if names else statement.kind in RANKED
