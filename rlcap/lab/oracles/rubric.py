"""Rubrics of a scene, and the lab's oracle that checks a caption against them in place of a text model.

>>> import random
>>> from rlcap.lab.world.scene import sample_scene
>>> rubric(sample_scene(random.Random(0)))[-1]["criterion"]
'Says nothing that is not so.'
"""

from __future__ import annotations

import json
import random
import re

from rlcap.judge.backends.base import JudgeRequest
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.world.language import PLACE_PHRASES, describe_background, describe_count, noun_phrase
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import check_caption
from rlcap.types import Sample

FAITHFUL = "Says nothing that is not so."
_DELIMITED = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_SAYS = "Says: "


def rubric(scene: Scene, seed: int = 0) -> list[dict]:
    """Return the criteria for a scene, as `meta["rubric"]` holds them. It depends on its arguments alone.

    The criteria are: every thing with its colour (weight 3), counts and the background (2), two further facts (1), and
    that the caption says nothing false (3).
    """
    rng = random.Random(f"rubric/{seed}/{json.dumps(scene.to_json(), sort_keys=True)}")
    essential = dict.fromkeys(f"there is {noun_phrase(thing, ('colour',))}." for thing in scene.things)
    counted = dict.fromkeys(thing.kind for thing in scene.things if scene.count(thing.kind) > 1)
    useful = [*(describe_count(kind, scene.count(kind)) for kind in counted), describe_background(scene.background)]
    single = [thing for thing in scene.things if scene.count(thing.kind) == 1]
    more = [f"the {thing.kind} is {thing.size}." for thing in single]
    more += [f"the {thing.kind} is {PLACE_PHRASES[thing.place]}." for thing in single]
    nice = rng.sample(more, min(2, len(more)))
    weighted = [(3, text) for text in essential] + [(2, text) for text in useful] + [(1, text) for text in nice]
    return [
        *({"criterion": f"{_SAYS}{text}", "weight": w} for w, text in weighted),
        {"criterion": FAITHFUL, "weight": 3},
    ]


def of_sample(sample: Sample) -> list[dict]:
    """Return the rubric of a sample of the lab.

    Raises:
        InputError: for a sample without a scene.
    """
    return rubric(scene_of(sample))


class OracleRubric(Oracle):
    """A judge backend for `rlcap.rewards.rubric:Rubric`, with criteria of this module.

    It needs samples of the lab (`meta["scene"]`).
    """

    name = "oracle-rubric-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return one line for each criterion.

        Raises:
            ValueError: for a sample without a scene, or a criterion that is not of this module.
        """
        scene, parts = scene_of(request.sample), dict(_DELIMITED.findall(request.text))
        verdict = check_caption(parts["caption"], scene)
        lines = []
        for i, line in enumerate(parts["rubric"].splitlines(), 1):
            criterion = line.partition(". ")[2]
            if criterion == FAITHFUL:
                is_met = bool(verdict.claims) and not verdict.wrong
            elif criterion.startswith(_SAYS):
                required = check_caption(criterion.removeprefix(_SAYS), scene).claims
                is_met = required.keys() <= {claim for claim, true in verdict.claims.items() if true}
            else:
                raise ValueError(f"the lab's checker can't read the criterion {criterion[:80]!r}")
            lines.append(f"{i}. read and compared | {'yes' if is_met else 'no'}")
        return "\n".join(["<criteria>", *lines, "</criteria>"])
