"""Rubrics of a scene, and the lab's checker of them: a stand-in for a text model that reads a caption against criteria.

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
_FENCE = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_SAYS = "Says: "


def rubric(scene: Scene, seed: int = 0) -> list[dict]:
    """Criteria as `meta["rubric"]` has them: every thing with its colour (weight 3), counts and the background (2), two
    further facts (1), and that nothing false is said (3). A pure function of its arguments."""
    rng = random.Random(f"rubric/{seed}/{json.dumps(scene.to_json(), sort_keys=True)}")
    essential = dict.fromkeys(f"there is {noun_phrase(thing, ('colour',))}." for thing in scene.things)
    counted = dict.fromkeys(thing.kind for thing in scene.things if scene.count(thing.kind) > 1)
    useful = [*(describe_count(kind, scene.count(kind)) for kind in counted), describe_background(scene.background)]
    single = [thing for thing in scene.things if scene.count(thing.kind) == 1]
    more = [f"the {thing.kind} is {thing.size}." for thing in single]
    more += [f"the {thing.kind} is {PLACE_PHRASES[thing.place]}." for thing in single]
    nice = rng.sample(more, min(2, len(more)))
    weighed = [(3, text) for text in essential] + [(2, text) for text in useful] + [(1, text) for text in nice]
    return [
        *({"criterion": f"{_SAYS}{text}", "weight": w} for w, text in weighed),
        {"criterion": FAITHFUL, "weight": 3},
    ]


def of_sample(sample: Sample) -> list[dict]:
    """The rubric of a sample of the lab. InputError for one without a scene."""
    return rubric(scene_of(sample))


class OracleRubric(Oracle):
    """An engine for `rlcap.rewards.rubric:Rubric`, with criteria of this module. Needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-rubric-1"

    def answer(self, request: JudgeRequest) -> str:
        """A line a criterion. ValueError for a sample without a scene, or a criterion that isn't of this module."""
        scene, fences = scene_of(request.sample), dict(_FENCE.findall(request.text))
        verdict = check_caption(fences["caption"], scene)
        lines = []
        for i, line in enumerate(fences["rubric"].splitlines(), 1):
            criterion = line.partition(". ")[2]
            if criterion == FAITHFUL:
                met = bool(verdict.claims) and not verdict.wrong
            elif criterion.startswith(_SAYS):
                wanted = check_caption(criterion.removeprefix(_SAYS), scene).claims
                met = wanted.keys() <= {claim for claim, true in verdict.claims.items() if true}
            else:
                raise ValueError(f"the lab's checker reads no criterion like {criterion[:80]!r}")
            lines.append(f"{i}. read and compared | {'yes' if met else 'no'}")
        return "\n".join(["<criteria>", *lines, "</criteria>"])
