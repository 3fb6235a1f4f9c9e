"""The truth about the images of the lab, for held-out metrics and for probes (protocol `rlcap.data.source.Truth`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from rlcap.lab import truth_metrics
from rlcap.lab.oracles.grader import grade
from rlcap.lab.world.language import (
    describe_background,
    describe_count,
    describe_relation,
    describe_thing,
    reading_order,
)
from rlcap.lab.world.scene import Scene, change_attribute, scene_of
from rlcap.lab.world.truth import check_caption, grammatical_share
from rlcap.lab.world.vocabulary import KINDS, RELATIONS
from rlcap.scorers.text.ngrams import tokenize
from rlcap.types import Sample


class LabTruth:
    """The truth about the lab: it checks captions against the scene of their image."""

    def metrics(self, captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Return metrics of N captions of the first N samples; see `rlcap.lab.truth_metrics`."""
        return truth_metrics.truth_metrics(captions, samples)

    def false_sentences(self, caption: str, sample: Sample) -> list[tuple[int, int, str]]:
        """Return (start, end, what is false) of each false sentence, in characters."""
        return truth_metrics.false_sentences(caption, scene_of(sample))

    def score(self, caption: str, sample: Sample) -> float:
        """Return the harmonic mean of precision and recall, times the share of grammatical sentences, in [0, 1]."""
        return grade(check_caption(caption, scene_of(sample))) / 10 * grammatical_share(caption)

    def good_caption(self, sample: Sample) -> str:
        """Return a true caption that is at least as long as the paragraph, if the scene has enough facts."""
        words = len(tokenize(sample.paragraph or ""))
        return true_caption(scene_of(sample), random.Random(sample.id), words)

    def false_sentence(self, caption: str, sample: Sample, rng: random.Random) -> str:
        """Return a sentence that is false when it follows the caption."""
        return false_sentence(caption, scene_of(sample), rng)


def true_caption(scene: Scene, rng: random.Random, words: int = 0) -> str:
    """Return a true caption of a scene.

    It names every thing with its colour, and the background. The function adds random further attributes until no sentence
    occurs twice and the caption has at least `words` words, or until the caption states all facts.
    """
    things = reading_order(scene)
    attributes = [["colour"] for _ in things]
    unsaid = [(i, name) for i in range(len(things)) for name in ("size", "fill", "place")]
    rng.shuffle(unsaid)
    seed = rng.random()
    while True:
        phrasing = random.Random(seed)  # each attempt uses the same wording
        sentences = [describe_thing(thing, names, phrasing) for thing, names in zip(things, attributes, strict=True)]
        text = " ".join([*sentences, describe_background(scene.background)])
        if not unsaid or (len(set(sentences)) == len(sentences) and len(tokenize(text)) >= words):
            return text
        i, name = unsaid.pop()
        attributes[i].append(name)


def false_sentence(caption: str, scene: Scene, rng: random.Random) -> str:
    """Return a sentence that is false of a scene when it follows a caption.

    It names a thing that is not there, or a wrong attribute, place, count, relation or background.
    """
    while True:
        kind = rng.choice(("change", "change", "change", "count", "relation"))
        if kind == "count":
            sentence = describe_count(rng.choice(KINDS), rng.randint(2, 5))
        elif kind == "relation":
            first, second = rng.sample(scene.things, 2)
            sentence = describe_relation(first, rng.choice(RELATIONS), second)
        else:
            changed, (index, attribute) = change_attribute(scene, rng)
            if index < 0:
                sentence = describe_background(changed.background)
            else:
                names = ["colour"] if attribute == "kind" else [attribute]
                sentence = describe_thing(changed.things[index], names, rng)
        if len(check_caption(f"{caption} {sentence}", scene).wrong) > len(check_caption(caption, scene).wrong):
            return sentence
