"""The lab's reviser: it criticizes a caption and rewrites it, for `rlcap.feedback.revise`.

It stands in for a large language model. It looks at the scene and is as honest as `OracleGrader`: it removes what is
wrong, and adds up to `MOST_ADDED` of the missing facts.
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
"""Kinds of facts that are added once the caption mentions every thing."""
_VARIABLE = re.compile(r"<VARIABLE>(.*?)</VARIABLE>", re.DOTALL)


class OracleReviser(Oracle):
    """A judge backend for `recipes/refine.py`. It needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-reviser-1"

    def answer(self, request: JudgeRequest) -> str:
        """Answer one of textgrad's three calls.

        The prompts tell which call it is: a step asks for the tags of the improved variable, a gradient shows the
        variable, and a loss holds the delimited caption.

        Raises:
            ValueError: for a sample without a scene.
        """
        scene, text = scene_of(request.sample), request.text
        if "<IMPROVED_VARIABLE>" in request.system:
            variable = _VARIABLE.search(text)
            assert variable is not None  # every step of textgrad shows the variable
            return f"<IMPROVED_VARIABLE>{rewrite(variable[1].strip(), scene)}</IMPROVED_VARIABLE>"
        if "<VARIABLE>" in text:
            return "Take back what was called wrong, and add what was called missing."
        return criticise(extract_delimited("caption", text), scene)


def criticise(caption: str, scene: Scene) -> str:
    """Return what is wrong and what is missing, in words."""
    verdict = check_caption(caption, scene)
    wrong = "; ".join(dict.fromkeys(verbalize_claim(claim) for claim in verdict.wrong)) or "nothing"
    missing = "; ".join(
        dict.fromkeys(verbalize_fact(fact, scene) for fact in facts(scene) if fact not in verdict.stated)
    )
    return f"Wrong: {wrong}. Missing: {missing or 'nothing'}."


def rewrite(caption: str, scene: Scene) -> str:
    """Return the caption's true facts and up to `MOST_ADDED` further ones, one sentence for each thing.

    The things are in reading order, and each one that is mentioned is given its colour.
    """
    known = facts(scene)
    stated = {fact for fact in check_caption(caption, scene).stated if fact in known}
    things = {("object", i) for i, thing in enumerate(scene.things)}
    missing = sorted(things - stated) or sorted(fact for fact in known if fact not in stated and fact[0] in ADDED)
    stated |= set(missing[:MOST_ADDED]) | {("background",)}
    sentences = []
    for i, thing in sorted(enumerate(scene.things), key=lambda pair: PLACES.index(pair[1].place)):
        if ("object", i) in stated:
            names = [name for name in ("size", "fill", "place") if (name, i) in stated]
            sentences.append(describe_thing(thing, ["colour", *names], random.Random(caption)))
    sentences.append(describe_background(scene.background))
    return " ".join(dict.fromkeys(sentences))
