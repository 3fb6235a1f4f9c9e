"""Measures the captioners of the lab by truth, and the base `web` as an answerer of yes/no questions."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from rlcap.config.schema import ModelConfig
from rlcap.eval.captioning import caption_samples
from rlcap.io.images import open_image
from rlcap.lab.models.web_questions import verification_set
from rlcap.lab.truth_metrics import truth_metrics
from rlcap.lab.world.language import INSTRUCTION
from rlcap.lab.world.scene import scene_of
from rlcap.policy.loading import load_policy
from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer
from rlcap.types import Sample

TRUTH = ("fact_recall", "hallucination_rate", "hallucinated", "wrong_unseen", "singles_out", "grammatical")
"""The metrics by truth that describe a captioner."""


def greedy_captions(base: str, adapter: str | None, samples: Sequence[Sample]) -> list[str]:
    """Return the greedy captions of a captioner; `base` and `adapter` are addresses or folders."""
    policy = load_policy(ModelConfig(base=base, adapter=adapter))
    return caption_samples(policy.model, policy.processor, samples, instruction=INSTRUCTION, max_new_tokens=96)


def caption_quality(captions: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
    """Return the means of the metrics `TRUTH`, and of the words per caption."""
    metrics = truth_metrics(captions, samples)
    means = {name: float(np.nanmean(metrics[name])) for name in TRUTH}
    return means | {"mean_words": float(np.mean([len(caption.split()) for caption in captions]))}


def verifier_accuracy(scorer: YesProbabilityScorer, samples: Sequence[Sample], seed: int = 0) -> dict[str, float]:
    """Return the share of yes/no questions that a model answers rightly, by type of claim and as `mean` of the types.

    Half of the questions of each type are about true sentences. An answer is yes if its probability is above 0.5.

    Args:
        scorer: The model.
        samples: Samples of the lab.
        seed: Seed of the questions.
    """
    questions = list(verification_set([scene_of(sample) for sample in samples], random.Random(f"verifier/{seed}")))
    images = [open_image(sample.image) for sample in samples]
    probabilities = scorer.probabilities(
        [images[i] for i, *_ in questions], [question for _, _, question, _ in questions]
    )
    right: dict[str, list[bool]] = {}
    for (_, what, _, is_true), probability in zip(questions, probabilities, strict=True):
        right.setdefault(what, []).append((probability > 0.5) == is_true)
    shares = {what: float(np.mean(values)) for what, values in right.items()}
    return shares | {"mean": float(np.mean(list(shares.values())))}
