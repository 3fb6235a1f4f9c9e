"""Metrics by the known truth of the lab: the claims of a caption, checked against the scene of its image."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rlcap.lab.controls import answered
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import Assertion, Verdict, check_caption, grammatical_share, singles_out
from rlcap.types import Sample

CATEGORIES: dict[str, tuple[str, ...]] = {
    "object": ("object",),
    "attribute": ("colour", "size", "fill"),
    "background": ("background",),
    "unseen": ("relation", "place", "count"),
}
"""Metric category → types of claims. The reward's retriever, which is close to a bag of words, can't check `unseen`."""
BAG = 5
"""Size of the bags for `singles_out`."""

_SENTENCE = re.compile(r"[^.!?]+[.!?]*")


def truth_metrics(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Compute the metrics of N captions of the first N of M ≥ N samples.

    Returns:
        Metrics (N,), NaN where a metric does not apply:

        * `fact_recall`: the share of the scene's facts that the caption states, in [0, 1].
        * `hallucination_rate`: the share of claims that are false, in [0, 1]; 0 for a caption without claims.
        * `hallucination_rate_<category>`: the same for the claims of a category (`CATEGORIES`); NaN for a caption
          without such a claim.
        * `hallucinated`: 1 where any claim is false, else 0.
        * `grammatical`: the share of grammatical sentences, in [0, 1].
        * `claims`: the number of claims.
        * `wrong_<category>`: the number of false claims of a category.
        * `singles_out`: 1 where the caption fits its own scene strictly better than each of its four nearest
          distractors, else 0; NaN where fewer than four distractors are among the samples.
        * `question_answered`: 1 where the caption names the kind that its row asks about, else 0; NaN for a row without a
          question. The metric is left out where no row asks.
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
    for category, types in CATEGORIES.items():
        metrics[f"hallucination_rate_{category}"] = [_rate(verdict, types) for verdict in verdicts]
        metrics[f"wrong_{category}"] = [float(sum(c.what in types for c in verdict.wrong)) for verdict in verdicts]
    metrics["singles_out"] = [
        _singles_out(caption, sample, scenes) for caption, sample in zip(captions, samples, strict=False)
    ]
    if not np.isnan(questions := answered(captions, samples)).all():
        metrics["question_answered"] = questions.tolist()
    return {name: np.asarray(values, dtype=np.float64) for name, values in metrics.items()}


def false_sentences(caption: str, scene: Scene) -> list[tuple[int, int, str]]:
    """Return (start, end, what is false) of each sentence with a false claim, with character positions in `caption`."""
    wrong = set(check_caption(caption, scene).wrong)
    spans = []
    for match in _SENTENCE.finditer(caption):
        # Use the false claims of the whole caption: a sentence alone could refer to another one of two balls.
        false = [claim for claim in check_caption(match.group(), scene).claims if claim in wrong]
        if false:
            start = match.start() + len(match.group()) - len(match.group().lstrip())
            spans.append((start, match.end(), "; ".join(describe_claim(claim) for claim in false)))
    return spans


def describe_claim(claim: Assertion) -> str:
    """Return a claim in a few words, such as `ball is red`, `a boat` or `boat above ball`."""
    if claim.what == "object":
        return f"a {claim.subject}"
    if claim.what == "relation":
        return f"{claim.subject} {claim.value} {claim.other}"
    if claim.what == "count":
        return f"{claim.value} × {claim.subject}"
    if claim.what == "background":
        return f"background {claim.value}"
    return f"{claim.subject} is {claim.value}"


def _rate(verdict: Verdict, types: Sequence[str]) -> float:
    truths = [true for claim, true in verdict.claims.items() if claim.what in types]
    return truths.count(False) / len(truths) if truths else float("nan")


def _singles_out(caption: str, sample: Sample, scenes: dict[str, Scene]) -> float:
    near = [scenes[id] for id in sample.distractors.get("hard", ()) if id in scenes][: BAG - 1]
    return float(singles_out(caption, scenes[sample.id], near)) if len(near) == BAG - 1 else float("nan")
