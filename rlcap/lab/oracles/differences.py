"""The lab's comparer of claims: a stand-in for a large language model that looks at the scene and reads two captions of it.

It answers what `rlcap.rewards.claim_diff:ClaimDiff` asks. Every claim that only one of the two makes is a difference; two that
speak of the same (`the ball is blue`, `the ball is red`) are one. Who makes a false claim is wrong, and so is who leaves
out a true one. What is said of no scene is no claim, and no difference.
"""

from __future__ import annotations

import itertools

from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.oracles.grader import verbalize_claim
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import Assertion, check_caption
from rlcap.rewards.claim_diff.parsing import WRONG, Difference, format_differences

_WORD = {wrong: word for word, wrong in WRONG.items()}


class OracleDifferences(Oracle):
    """An engine for `rlcap.rewards.claim_diff:ClaimDiff`. Needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-differences-1"

    def answer(self, request: JudgeRequest) -> str:
        """A list in the strict form of `rlcap.rewards.claim_diff.parsing`. ValueError for a sample without a scene."""
        prompt, scene = request.text, scene_of(request.sample)
        return format_differences(
            compare_captions(extract_delimited("caption", prompt), extract_delimited("reference", prompt), scene)
        )


def compare_captions(caption: str, reference: str, scene: Scene) -> list[Difference]:
    """What the two claim differently of a scene, by what it is about, in order of appearance."""
    first, second = check_caption(caption, scene).claims, check_caption(reference, scene).claims
    own = _about({claim: true for claim, true in first.items() if claim not in second})
    other = _about({claim: true for claim, true in second.items() if claim not in first})
    found = []
    for topic in dict.fromkeys([*own, *other]):
        pairs = itertools.zip_longest(own.get(topic, ()), other.get(topic, ()), fillvalue=(None, False))
        for (said, right), (told, known) in pairs:
            texts = [
                f"the {who}: {verbalize_claim(claim)}"
                for who, claim in (("caption", said), ("reference", told))
                if claim
            ]
            wrong = (said is not None and not right) or known, (told is not None and not known) or right
            found.append(Difference("; ".join(texts), _WORD[wrong]))
    return found


def _about(claims: dict[Assertion, bool]) -> dict[tuple[str, str, str], list[tuple[Assertion, bool]]]:
    """Claims with their truth, by what they are about."""
    found: dict[tuple[str, str, str], list[tuple[Assertion, bool]]] = {}
    for claim, true in claims.items():
        found.setdefault((claim.what, claim.subject, claim.other), []).append((claim, true))
    return found
