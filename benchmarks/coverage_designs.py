"""Simulated evaluations whose true mean is known, to count how often an interval holds it.

The value of an image by a seed is a sum of normal effects: of the seed, of the cluster of the image, of the cluster in
this seed, of the image, and of the image in this seed. A binary metric is whether the sum exceeds a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from rlcap.eval.statistics import estimate

IMAGE, IMAGE_IN_SEED = 0.7, 0.7
"""Standard deviations of the effects of an image, in all seeds and in one."""
CLUSTER = {"none": 0.0, "strong": 0.7}
"""Standard deviation of the effect of a cluster; that of a cluster in one seed is half of it. `strong` gives two images of
a cluster a correlation of .38 for one seed."""
SEED = {"none": 0.0, "moderate": 0.1, "strong": 0.5}
"""Standard deviation of the effect of a seed. `strong` exceeds the error of a mean over 35 images or more."""
THRESHOLD = {"binary": (-0.8, 0.8), "rare": (1.5, 1.5)}
"""What the sum exceeds where a binary metric is 1, drawn for each evaluation: about .2 to .8 of the captions, and .1. A single
share would not do, because 35 images have only 36 possible means: the coverage jumps with the share between .91 and .97."""


@dataclass(frozen=True, slots=True)
class Design:
    """A number of seeds, clusters and images, and how strong their effects are."""

    seeds: int
    clusters: int
    images: int
    cluster_effect: str = "strong"
    seed_effect: str = "none"
    metric: str = "continuous"
    unequal: bool = False
    """Whether a third of the images is in the first cluster, and the others are in clusters of equal size."""

    def sizes(self) -> np.ndarray:
        """Return the number of images in each cluster, of which there are at most as many as images."""
        count = min(self.clusters, self.images)
        first = self.images // 3 if self.unequal else 0
        rest = count - bool(first)
        sizes = np.full(rest, (self.images - first) // rest)
        sizes[: (self.images - first) % rest] += 1
        return np.concatenate([[first], sizes]) if first else sizes


def draw(design: Design, runs: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Simulate evaluations.

    Returns:
        The values (runs, S, N), the cluster of each image, and the true mean (runs,). With one seed it is the mean over
        images for that seed, otherwise the mean over images and seeds.
    """
    sizes = design.sizes()
    labels = np.repeat(np.arange(len(sizes)), sizes)
    shape = (runs, design.seeds, design.images)
    cluster, seed = CLUSTER[design.cluster_effect], SEED[design.seed_effect]
    of_seed = seed * rng.standard_normal((runs, design.seeds, 1))
    values = of_seed + IMAGE_IN_SEED * rng.standard_normal(shape) + IMAGE * rng.standard_normal((runs, 1, shape[2]))
    if cluster:
        by_cluster = rng.standard_normal((runs, 1, len(sizes))) + rng.standard_normal((*shape[:2], len(sizes))) / 2
        values += cluster * by_cluster[..., labels]
    variance = IMAGE**2 + IMAGE_IN_SEED**2 + 1.25 * cluster**2
    truth = of_seed[:, 0, 0] if design.seeds == 1 else np.zeros(runs)
    if design.metric == "continuous":
        return values, labels.tolist(), truth
    threshold = rng.uniform(*THRESHOLD[design.metric], runs)
    truth = ndtr((truth - threshold) / np.sqrt(variance + (design.seeds > 1) * seed**2))
    return (values > threshold[:, None, None]).astype(np.float64), labels.tolist(), truth


def coverage(design: Design, runs: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the share of simulated evaluations whose interval holds the true mean, and the mean width."""
    values, clusters, truth = draw(design, runs, rng)
    found = estimate(values, clusters)
    return float((np.abs(found.mean - truth) <= found.half + 1e-12).mean()), float(2 * found.half.mean())


def bootstrap_coverage(
    design: Design, runs: int, rng: np.random.Generator, resamples: int = 500
) -> tuple[float, float]:
    """Return the same for the percentile bootstrap of rlcap 0.1, which resamples images and seeds."""
    values, _, truth = draw(design, runs, rng)
    count, seeds = design.images, design.seeds
    drawn = rng.integers(0, count, (resamples, count)) + np.arange(resamples)[:, None] * count
    counts = np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count) / count
    means = (values.reshape(-1, count) @ counts.T).reshape(runs, seeds, resamples)
    chosen = rng.integers(0, seeds, (resamples, seeds))
    means = means[:, chosen, np.arange(resamples)[:, None]].mean(-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return float(((low <= truth) & (truth <= high)).mean()), float((high - low).mean())
