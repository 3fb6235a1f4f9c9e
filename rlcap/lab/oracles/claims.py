"""The lab's oracle of claims: it takes a caption apart into claims and checks them against the scene.

It stands in for a large language model and answers what `rlcap.rewards.claims:Claims` asks. Every claim that
`rlcap.lab.world.truth` reads is true or false by the scene, and states the first fact that makes the same claim. A
sentence that claims nothing about the scene is listed as abstract.
"""

from __future__ import annotations

import re

from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import extract_delimited
from rlcap.lab.oracles.base import Oracle
from rlcap.lab.oracles.grader import verbalize_claim
from rlcap.lab.world.scene import scene_of
from rlcap.lab.world.truth import check_caption, parse_caption, sentences
from rlcap.rewards.claims.parsing import Claim, format_claims

_NUMBER = re.compile(r"^\d+\. ")


class OracleClaims(Oracle):
    """A judge backend for `rlcap.rewards.claims:Claims`. It needs samples of the lab (`meta["scene"]`)."""

    name = "oracle-claims-1"

    def answer(self, request: JudgeRequest) -> str:
        """Return a list in the strict form of `rlcap.rewards.claims.parsing`.

        Raises:
            ValueError: for a sample without a scene.
        """
        scene, prompt = scene_of(request.sample), request.text
        facts = [
            check_caption(_NUMBER.sub("", line), scene).claims
            for line in extract_delimited("facts", prompt).splitlines()
        ]
        caption = extract_delimited("caption", prompt)
        claims = [
            Claim(verbalize_claim(claim), true, True, next((i for i, fact in enumerate(facts) if claim in fact), None))
            for claim, true in check_caption(caption, scene).claims.items()
        ]
        abstract = [" ".join(words) for words in sentences(caption) if not any(parse_caption(" ".join(words)))]
        return format_claims([*claims, *(Claim(text, None, False, None) for text in abstract)])
