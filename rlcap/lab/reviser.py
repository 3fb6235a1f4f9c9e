"""The lab's reviser: a stand-in for a large language model that criticises a caption and rewrites it, for
`rlcap.reward.revise`. It looks at the scene, and is as honest as `LabCritic`: what is wrong goes, and of what is missing up to
`MOST_ADDED` facts are added.
"""

from __future__ import annotations

import random
import re
from typing import Any

from rlcap.lab.engine import say_claim, say_fact
from rlcap.lab.language import tell_background, tell_relation, tell_thing
from rlcap.lab.scene import Scene
from rlcap.lab.truth import facts, judge
from rlcap.reward.prompt import fenced
from rlcap.types import Sample

MOST_ADDED = 3
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_VARIABLE = re.compile(r"<VARIABLE>(.*?)</VARIABLE>", re.DOTALL)


class LabReviser:
    """An engine for `recipes/refine.py`. Needs samples of the lab (`meta["scene"]`)."""

    model_string = "lab-reviser-1"
    is_multimodal = False
    accepts_sample = True
    max_concurrency = 1  # it computes, it does not wait

    def generate(self, content: Any, system_prompt: str | None = None, *, sample: Sample, **_: Any) -> str:
        """textgrad's three calls are told apart by what they ask for: a loss holds the caption in a fence, a step wants its
        tags, a gradient is what is left. ValueError for a sample without a scene."""
        if "scene" not in sample.meta:
            raise ValueError(f"sample {sample.id!r} has no scene: the lab's reviser only knows images of the lab")
        scene, text = Scene.from_json(sample.meta["scene"]), content if isinstance(content, str) else content[0]
        if "<IMPROVED_VARIABLE>" in (system_prompt or ""):
            return f"<IMPROVED_VARIABLE>{rewrite(_VARIABLE.search(text)[1].strip(), scene)}</IMPROVED_VARIABLE>"
        if "<VARIABLE>" in text:
            return "Take back what was called wrong, and add what was called missing."
        return criticise(fenced("caption", text), scene)

    __call__ = generate


def criticise(caption: str, scene: Scene) -> str:
    """What is wrong and what is missing, in words."""
    verdict = judge(caption, scene)
    wrong = "; ".join(dict.fromkeys(say_claim(claim) for claim in verdict.wrong)) or "nothing"
    missing = "; ".join(dict.fromkeys(say_fact(fact, scene) for fact in facts(scene) if fact not in verdict.told))
    return f"Wrong: {wrong}. Missing: {missing or 'nothing'}."


def rewrite(caption: str, scene: Scene) -> str:
    """The caption without its false sentences, and with up to `MOST_ADDED` sentences that tell what was left out."""
    kept = caption
    while wrong := set(judge(kept, scene).wrong):
        sentences = [s.strip() for s in _SENTENCE.findall(kept) if s.strip()]
        bad = next((s for s in sentences if set(judge(s, scene).claims) & wrong), None) or sentences[-1]
        sentences.remove(bad)
        kept = " ".join(sentences)
    rng = random.Random(caption)
    for sentence in (*tellings(scene, rng), tell_background(scene.background)):
        longer = f"{kept} {sentence}".strip()
        before, after = judge(kept, scene), judge(longer, scene)
        if not after.wrong and len(after.told) > len(before.told):
            kept = longer
        if kept.count(".") >= caption.count(".") + MOST_ADDED:
            break
    return kept or tell_background(scene.background)


def tellings(scene: Scene, rng: random.Random) -> list[str]:
    """Sentences about each thing and pair, the plain ones first."""
    told = [tell_thing(thing, ["colour"], rng) for thing in scene.things]
    told += [tell_thing(thing, [name], rng) for name in ("place", "size", "fill") for thing in scene.things]
    return [*told, *(tell_relation(a, "above", b) for a in scene.things for b in scene.things if a is not b)]
