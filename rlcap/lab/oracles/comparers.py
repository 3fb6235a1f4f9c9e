"""The lab's stand-ins for the critique reward's other forms: one says which of two captions is better, one corrects one.

Both look at the scene, as `OracleGrader` does: `best_of_two` goes by its grade, and the corrector keeps what is a sentence of the
lab's language and true, once, and says what stands there besides.
"""

from __future__ import annotations

import random

from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.oracles.grader import grade
from rlcap.lab.world.language import describe_background, describe_thing
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import check_caption, grammatical_share
from rlcap.scorers.text.sentences import split_sentences


class OraclePreference(Oracle):
    """An engine for `rlcap.rewards.critique:Critique` with `form: best_of_two`."""

    name = "oracle-preference-1"

    def answer(self, request: JudgeRequest) -> str:
        """The strict form of `rlcap.rewards.critique.pairwise`."""
        scene, prompt = scene_of(request.sample), request.text
        first, second = (grade(check_caption(extract_delimited(name, prompt), scene)) for name in ("first", "second"))
        better = "neither" if abs(first - second) < 1e-9 else "first" if first > second else "second"
        return f"<reason>{first:.1f} and {second:.1f} of 10</reason>\n<better>{better}</better>"


class OracleCorrector(Oracle):
    """An engine for `rlcap.rewards.critique:Critique` with `form: revision_gap`."""

    name = "oracle-corrector-1"

    def answer(self, request: JudgeRequest) -> str:
        """The strict form of `rlcap.rewards.critique.edit_similarity`."""
        scene, prompt = scene_of(request.sample), request.text
        return f"<revised>{correct_caption(extract_delimited('caption', prompt), scene)}</revised>"


def correct_caption(caption: str, scene: Scene) -> str:
    """The caption's well-formed and true sentences, each once, and a sentence for each thing and background left out."""
    fine = [text for text in dict.fromkeys(split_sentences(caption)) if _stands(text, scene)]
    told = check_caption(" ".join(fine), scene).stated
    rng = random.Random(0)
    missing = [
        describe_thing(thing, ("colour",), rng) for i, thing in enumerate(scene.things) if ("object", i) not in told
    ]
    ground = [] if ("background",) in told else [describe_background(scene.background)]
    return " ".join([*fine, *missing, *ground])


def _stands(text: str, scene: Scene) -> bool:
    if not text.isascii():
        return False  # the lab's language is English: what stands beside it in another script may be an order
    verdict = check_caption(text, scene)
    return bool(verdict.claims) and not verdict.wrong and grammatical_share(text) == 1
