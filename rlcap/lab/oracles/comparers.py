"""The lab's oracles for two other forms of the critique reward: one compares two captions, one corrects a caption.

Both look at the scene, as `OracleGrader` does. The first uses the same grade. The corrector keeps each sentence that is
well formed and true, once, and adds what is missing.
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
    """A judge backend for `rlcap.rewards.critique:Critique` with `form: best_of_two`."""

    name = "oracle-preference-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return the better of the two captions in the strict form of `rlcap.rewards.critique.pairwise`.

        Raises:
            ValueError: for a sample without a scene.
        """
        scene, prompt = scene_of(request.sample), request.text
        first, second = (grade(check_caption(extract_delimited(name, prompt), scene)) for name in ("first", "second"))
        better = "neither" if abs(first - second) < 1e-9 else "first" if first > second else "second"
        return f"<reason>{first:.1f} and {second:.1f} of 10</reason>\n<better>{better}</better>"


class OracleCorrector(Oracle):
    """A judge backend for `rlcap.rewards.critique:Critique` with `form: revision_gap`."""

    name = "oracle-corrector-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return the corrected caption in the strict form of `rlcap.rewards.critique.edit_similarity`.

        Raises:
            ValueError: for a sample without a scene.
        """
        scene, prompt = scene_of(request.sample), request.text
        return f"<revised>{correct_caption(extract_delimited('caption', prompt), scene)}</revised>"


def correct_caption(caption: str, scene: Scene) -> str:
    """Return the caption's well-formed and true sentences, each once, and a sentence for whatever is left out.

    What may be left out are the scene's things and its background.
    """
    kept = [text for text in dict.fromkeys(split_sentences(caption)) if _is_true(text, scene)]
    stated = check_caption(" ".join(kept), scene).stated
    rng = random.Random(0)
    missing = [
        describe_thing(thing, ("colour",), rng) for i, thing in enumerate(scene.things) if ("object", i) not in stated
    ]
    background = [] if ("background",) in stated else [describe_background(scene.background)]
    return " ".join([*kept, *missing, *background])


def _is_true(text: str, scene: Scene) -> bool:
    if not text.isascii():
        return False  # the lab's language is English: text in another script may be an instruction to the judge
    verdict = check_caption(text, scene)
    return bool(verdict.claims) and not verdict.wrong and grammatical_share(text) == 1
