"""The lab's truth as metrics: what a caption claims and tells, counted against the scene that was drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rlcap.lab.world.scene import Scene
from rlcap.lab.world.truth import Assertion, Verdict, check_caption, grammatical_share, singles_out
from rlcap.types import Sample

CATEGORIES: dict[str, tuple[str, ...]] = {
    "object": ("object",),
    "attribute": ("colour", "size", "fill"),
    "background": ("background",),
    "unseen": ("relation", "place", "count"),
}
"""Metric category → kinds of claims. `unseen` is what the reward's retriever, close to a bag of words, can't see."""
BAG = 5

_SENTENCE = re.compile(r"[^.!?]+[.!?]*")


def scene_of(sample: Sample) -> Scene:
    """The scene of a lab sample. ValueError, naming the sample, for one that is not of the lab."""
    data = sample.meta.get("scene")
    if data is None:
        raise ValueError(
            f"sample {sample.id!r} has no scene: truth metrics are for the lab; set truth=False for photos"
        )
    return Scene.from_json(data)


def truth_metrics(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Metrics of N captions of the first N of M ≥ N samples; each (N,), NaN where it does not apply.

    * `fact_recall`: facts told over facts of the scene. `hallucination_rate`: false claims over claims (0 without any
      claim). `hallucinated`: whether any claim is false. `grammatical`: share of grammatical sentences. All in [0, 1].
    * `hallucination_rate_<category>`: among the claims of a category (`CATEGORIES`); NaN for a caption without one.
    * `wrong_<category>`: how many false claims; `claims`: how many claims.
    * `singles_out`: 1 where the caption fits its own scene strictly better than each of its four nearest distractors;
      NaN where fewer than four are among the samples.
    """
    scenes = {sample.id: scene_of(sample) for sample in samples}
    verdicts = [check_caption(caption, scenes[sample.id]) for caption, sample in zip(captions, samples, strict=False)]
    metrics = {
        "fact_recall": [verdict.recall for verdict in verdicts],
        "hallucination_rate": [verdict.hallucination_rate for verdict in verdicts],
        "hallucinated": [float(bool(verdict.wrong)) for verdict in verdicts],
        "grammatical": [grammatical_share(caption) for caption in captions],
        "claims": [float(len(verdict.claims)) for verdict in verdicts],
    }
    for category, kinds in CATEGORIES.items():
        metrics[f"hallucination_rate_{category}"] = [_rate(verdict, kinds) for verdict in verdicts]
        metrics[f"wrong_{category}"] = [float(sum(c.what in kinds for c in verdict.wrong)) for verdict in verdicts]
    metrics["singles_out"] = [
        _singles_out(caption, sample, scenes) for caption, sample in zip(captions, samples, strict=False)
    ]
    return {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}


def false_sentences(caption: str, scene: Scene) -> list[tuple[int, int, str]]:
    """(start, end, what is false) of each sentence that makes a false claim; positions are of characters in `caption`."""
    wrong = set(check_caption(caption, scene).wrong)
    found = []
    for match in _SENTENCE.finditer(caption):
        # by what the caption as a whole got wrong: a sentence alone could mean another of two balls
        false = [claim for claim in check_caption(match.group(), scene).claims if claim in wrong]
        if false:
            start = match.start() + len(match.group()) - len(match.group().lstrip())
            found.append((start, match.end(), "; ".join(describe(claim) for claim in false)))
    return found


def describe(claim: Assertion) -> str:
    """A claim in a few words: `ball is red`, `no boat`-style claims as the thing's name."""
    if claim.what == "object":
        return f"a {claim.subject}"
    if claim.what == "relation":
        return f"{claim.subject} {claim.value} {claim.other}"
    if claim.what == "count":
        return f"{claim.value} × {claim.subject}"
    if claim.what == "background":
        return f"background {claim.value}"
    return f"{claim.subject} is {claim.value}"


def _rate(verdict: Verdict, kinds: Sequence[str]) -> float:
    judged = [true for claim, true in verdict.claims.items() if claim.what in kinds]
    return judged.count(False) / len(judged) if judged else float("nan")


def _singles_out(caption: str, sample: Sample, scenes: dict[str, Scene]) -> float:
    near = [scenes[id] for id in sample.distractors.get("hard", ()) if id in scenes][: BAG - 1]
    return float(singles_out(caption, scenes[sample.id], near)) if len(near) == BAG - 1 else float("nan")
