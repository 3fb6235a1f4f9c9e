"""The lab's oracle of differences: it looks at the scene and compares the claims of two captions of it.

It stands in for a large language model and answers what `rlcap.rewards.claim_diff:ClaimDiff` asks. Every claim that
only one of the two captions makes is a difference; two claims about the same thing (`the ball is blue`, `the ball is
red`) are one difference. The caption that makes a false claim is wrong, and so is one that leaves out a true claim. A
sentence that claims nothing about the scene is no difference.
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
    """A judge backend for `rlcap.rewards.claim_diff:ClaimDiff`. It needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-differences-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return a list in the strict form of `rlcap.rewards.claim_diff.parsing`.

        Raises:
            ValueError: for a sample without a scene.
        """
        prompt, scene = request.text, scene_of(request.sample)
        return format_differences(
            compare_captions(extract_delimited("caption", prompt), extract_delimited("reference", prompt), scene)
        )


def compare_captions(caption: str, reference: str, scene: Scene) -> list[Difference]:
    """Return the differing claims of two captions of a scene, grouped by topic, in order of appearance."""
    first, second = check_caption(caption, scene).claims, check_caption(reference, scene).claims
    own_claims = _group_by_topic({claim: true for claim, true in first.items() if claim not in second})
    other_claims = _group_by_topic({claim: true for claim, true in second.items() if claim not in first})
    differences = []
    for topic in dict.fromkeys([*own_claims, *other_claims]):
        pairs = itertools.zip_longest(own_claims.get(topic, ()), other_claims.get(topic, ()), fillvalue=(None, False))
        for (own_claim, own_is_true), (other_claim, other_is_true) in pairs:
            texts = [
                f"the {who}: {verbalize_claim(claim)}"
                for who, claim in (("caption", own_claim), ("reference", other_claim))
                if claim
            ]
            wrong = (
                (own_claim is not None and not own_is_true) or other_is_true,
                (other_claim is not None and not other_is_true) or own_is_true,
            )
            differences.append(Difference("; ".join(texts), _WORD[wrong]))
    return differences


def _group_by_topic(claims: dict[Assertion, bool]) -> dict[tuple[str, str, str], list[tuple[Assertion, bool]]]:
    """Group claims, with their truth, by what they are about."""
    by_topic: dict[tuple[str, str, str], list[tuple[Assertion, bool]]] = {}
    for claim, true in claims.items():
        by_topic.setdefault((claim.what, claim.subject, claim.other), []).append((claim, true))
    return by_topic
