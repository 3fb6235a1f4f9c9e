"""A noisy expert of the lab: it looks at the scene, misreads a stated share of it, and misses a stated share of the things."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rlcap.errors import ConfigError
from rlcap.experts.base import Expert, ExpertInput, Statement
from rlcap.judge.image_crops import Box
from rlcap.lab.oracles.scene_reading import ATTRIBUTES
from rlcap.lab.world.language import describe_background, describe_thing, reading_order
from rlcap.lab.world.scene import misread, scene_of
from rlcap.lab.world.vocabulary import cell_of
from rlcap.types import Sample


class SceneExpert(Expert):
    """Describes the things of a scene with their attributes, one statement each, and the background.

    Its errors are drawn from the id of the sample and the seed: experts with different seeds err independently of each other, and each
    of them always errs in the same way.

    Args:
        misreads: Share of the scene's attributes, in [0, 1], that it takes for others.
        misses: Share of the things, in [0, 1], that it does not mention.
        attributes: Attributes that it names, of size, fill, colour and place.
        background: Whether it names the background.
        seed: Distinguishes experts.

    Raises:
        ConfigError: A share is not in [0, 1], or an attribute is unknown.
    """

    reads_row = True

    def __init__(
        self,
        misreads: float = 0.1,
        misses: float = 0.1,
        attributes: Sequence[str] = ATTRIBUTES,
        background: bool = True,
        seed: int = 0,
    ) -> None:
        if not (0 <= misreads <= 1 and 0 <= misses <= 1):
            raise ConfigError(f"misreads and misses are shares in [0, 1], got {misreads} and {misses}")
        if unknown := sorted(set(attributes) - set(ATTRIBUTES)):
            raise ConfigError(f"the attributes of the lab are {', '.join(ATTRIBUTES)}; got {', '.join(unknown)}")
        self.misreads, self.misses, self.seed = misreads, misses, seed
        self.attributes, self.background = tuple(attributes), background

    def describe(self, inputs: Sequence[ExpertInput]) -> list[list[Statement]]:
        """Return the statements about each scene.

        Raises:
            InputError: A sample is not from the lab.
        """
        return [self._describe(one.sample) for one in inputs]

    def _describe(self, sample: Sample) -> list[Statement]:
        rng = random.Random(f"scene expert {self.seed}/{sample.id}")
        scene = misread(scene_of(sample), rng, self.misreads)
        statements = []
        for thing in reading_order(scene):
            text, score = describe_thing(thing, self.attributes, rng), rng.uniform(0.5, 1.0)
            if rng.random() >= self.misses:
                column, row = cell_of(thing.place)
                box = Box(column / 3, row / 3, (column + 1) / 3, (row + 1) / 3)
                statements.append(Statement(text, "object", score=score, box=box))
        if self.background:
            statements.append(Statement(describe_background(scene.background), "tag"))
        return statements
