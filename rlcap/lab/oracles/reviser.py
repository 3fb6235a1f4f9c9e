"""The lab's reviser: a stand-in for a large language model that criticises a caption and rewrites it, for
`rlcap.feedback.revise`. It looks at the scene, and is as honest as `OracleGrader`: what is wrong goes, and of what is missing up to
`MOST_ADDED` facts come in.
"""

from __future__ import annotations

import random
import re

from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.oracles.grader import verbalize_claim, verbalize_fact
from rlcap.lab.world.language import describe_background, describe_thing
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import check_caption, facts
from rlcap.lab.world.vocabulary import PLACES

MOST_ADDED = 3
ADDED = ("size", "fill", "place")
"""Kinds of facts that are added once every thing is spoken of."""
_VARIABLE = re.compile(r"<VARIABLE>(.*?)</VARIABLE>", re.DOTALL)


class OracleReviser(Oracle):
    """An engine for `recipes/refine.py`. Needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-reviser-1"

    def answer(self, request: JudgeRequest) -> str:
        """textgrad's three calls are told apart by what they ask for: a loss holds the caption in a fence, a step wants its
        tags, a gradient is what is left. ValueError for a sample without a scene."""
        scene, text = scene_of(request.sample), request.text
        if "<IMPROVED_VARIABLE>" in request.system:
            return f"<IMPROVED_VARIABLE>{rewrite(_VARIABLE.search(text)[1].strip(), scene)}</IMPROVED_VARIABLE>"
        if "<VARIABLE>" in text:
            return "Take back what was called wrong, and add what was called missing."
        return criticise(extract_delimited("caption", text), scene)


def criticise(caption: str, scene: Scene) -> str:
    """What is wrong and what is missing, in words."""
    verdict = check_caption(caption, scene)
    wrong = "; ".join(dict.fromkeys(verbalize_claim(claim) for claim in verdict.wrong)) or "nothing"
    missing = "; ".join(
        dict.fromkeys(verbalize_fact(fact, scene) for fact in facts(scene) if fact not in verdict.stated)
    )
    return f"Wrong: {wrong}. Missing: {missing or 'nothing'}."


def rewrite(caption: str, scene: Scene) -> str:
    """What the caption told truly and up to `MOST_ADDED` facts more, a sentence a thing in reading order; each thing that is
    spoken of is given its colour."""
    known = facts(scene)
    told = {fact for fact in check_caption(caption, scene).stated if fact in known}
    things = {("object", i) for i, thing in enumerate(scene.things)}
    missing = sorted(things - told) or sorted(fact for fact in known if fact not in told and fact[0] in ADDED)
    told |= set(missing[:MOST_ADDED]) | {("background",)}
    sentences = []
    for i, thing in sorted(enumerate(scene.things), key=lambda pair: PLACES.index(pair[1].place)):
        if ("object", i) in told:
            names = [name for name in ("size", "fill", "place") if (name, i) in told]
            sentences.append(describe_thing(thing, ["colour", *names], random.Random(caption)))
    sentences.append(describe_background(scene.background))
    return " ".join(dict.fromkeys(sentences))
