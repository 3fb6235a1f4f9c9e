"""The lab's oracle judge: it looks at the scene and writes an honest critique.

It stands in for a large language model: it reads the caption from the prompt, and answers in the format that the prompt
asks for. Its grade is the harmonic mean of precision and recall, out of ten. Like a real model it may see wrongly, each
image always in the same way. A judge that saw everything would be the held-out metric itself, and training with it
would prove nothing.
"""

from __future__ import annotations

import json
import random

from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.parsing import Verdict as JudgeVerdict
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.world.language import PLACE_PHRASES, RELATION_PHRASES, article
from rlcap.lab.world.scene import Scene, misread, scene_of
from rlcap.lab.world.truth import Assertion, Verdict, check_caption, facts

MOST_MISSING = 6
"""The oracle names the most important omissions, not all of them."""


def verbalize_claim(claim: Assertion) -> str:
    """Return a claim in words: `the ball is blue`."""
    match claim.what:
        case "object":
            return f"there is {article(claim.subject)}"
        case "place":
            return f"the {claim.subject} is {PLACE_PHRASES[claim.value]}"
        case "count":
            return f"there are {claim.value} of the kind {claim.subject}"
        case "relation":
            return f"the {claim.subject} is {RELATION_PHRASES[claim.value]} the {claim.other}"
        case "background":
            return f"the background is {claim.value}"
        case _:
            return f"the {claim.subject} is {claim.value}"


def verbalize_fact(fact: tuple, scene: Scene) -> str:
    """Return a missing fact in words."""
    if fact[0] == "background":
        return f"the background is {scene.background}"
    if fact[0] == "count":
        return f"there are {scene.count(fact[1])} of the kind {fact[1]}"
    if fact[0] == "relation":
        return f"how the {scene.things[fact[1]].kind} and the {scene.things[fact[2]].kind} stand to each other"
    thing = scene.things[fact[1]]
    if fact[0] == "object":
        return article(f"{thing.colour} {thing.kind}")
    return f"the {thing.kind} is {PLACE_PHRASES[thing.place] if fact[0] == 'place' else getattr(thing, fact[0])}"


def grade(verdict: Verdict) -> float:
    """Return a grade from 0 to 10: ten times the harmonic mean of precision and recall.

    Precision is the share of true claims, recall the share of stated facts.
    """
    precision = 1 - verdict.hallucination_rate if verdict.claims else 0.0
    total = precision + verdict.recall
    return 20 * precision * verdict.recall / total if total else 0.0


def read_caption(request: JudgeRequest, misreads: float = 0.0) -> tuple[Verdict, Scene]:
    """Check the caption in a prompt against the sample's scene.

    Args:
        request: a request whose prompt holds a delimited caption.
        misreads: share of the scene's attributes, in [0, 1], that the judge takes for others.

    Returns:
        The verdict and the scene, both as such a judge sees them.

    Raises:
        ValueError: for a sample without a scene.
    """
    scene = misread(scene_of(request.sample), random.Random(f"misread/{request.sample.id}"), misreads)
    return check_caption(extract_delimited("caption", request.text), scene), scene


class OracleGrader(Oracle):
    """A judge backend for `rlcap.rewards.critique:Critique`. It needs samples of the lab (`meta["scene"]`).

    Args:
        misreads: share of a scene's attributes, in [0, 1], that the judge takes for others.
    """

    def __init__(self, misreads: float = 0.0) -> None:
        if not 0 <= misreads <= 1:
            raise ValueError(f"misreads is a share and must lie in [0, 1], got {misreads}")
        self.misreads = misreads
        self.name = "oracle-grader-1" + (f" misreads={misreads:g}" if misreads else "")

    def answer(self, request: JudgeRequest) -> str:
        """Return a critique in the strict form of `rlcap.judge.parsing`.

        Raises:
            ValueError: for a sample without a scene.
        """
        verdict, scene = read_caption(request, self.misreads)
        wrong = tuple(dict.fromkeys(verbalize_claim(claim) for claim in verdict.wrong))
        unstated = [verbalize_fact(fact, scene) for fact in facts(scene) if fact not in verdict.stated]
        missing = tuple(dict.fromkeys(unstated))[:MOST_MISSING]
        advice = f"take back that {wrong[0]}" if wrong else "nothing it says is wrong"
        advice += f"; add {missing[0]}" if missing else "; nothing important is missing"
        return JudgeVerdict(advice + ".", wrong, missing, round(grade(verdict), 2)).text()


class OracleLikelihood(Oracle):
    """A judge backend for `rlcap.rewards.clair:Clair`, with the oracle's grade as a likelihood.

    It needs samples of the lab (`meta["scene"]`).
    """

    name = "oracle-likelihood-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return a JSON object with reason and score, in tags.

        Raises:
            ValueError: for a sample without a scene.
        """
        verdict, _scene = read_caption(request)
        reason = f"{len(verdict.wrong)} of {len(verdict.claims)} claims are wrong"
        return f"<verdict>{json.dumps({'reason': reason, 'score': round(10 * grade(verdict), 1)})}</verdict>"
