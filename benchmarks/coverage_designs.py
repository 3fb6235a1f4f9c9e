"""Simulated evaluations whose true mean is known, to count how often an interval holds it.

The value of an image by a seed is a sum of normal effects: of the seed, of the cluster of the image, of the cluster in
this seed, of the image, and of the image in this seed. A binary metric is whether the sum exceeds a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from rlcap.eval.statistics import estimate, share_interval

IMAGE, IMAGE_IN_SEED = 0.7, 0.7
"""Standard deviations of the effects of an image, in all seeds and in one."""
CLUSTER = {"none": 0.0, "strong": 0.7}
"""Standard deviation of the effect of a cluster; that of a cluster in one seed is half of it. `strong` gives two images of
a cluster a correlation of .38 for one seed."""
SEED = {"none": 0.0, "moderate": 0.1, "strong": 0.5}
"""Standard deviation of the effect of a seed. `strong` exceeds the error of a mean over 35 images or more."""
THRESHOLD = {"binary": (-0.8, 0.8), "rare": (1.5, 1.5), "very rare": (2.0, 2.0)}
"""What the sum exceeds where a share's metric is 1, drawn for each evaluation: about .2 to .8 of the captions, .1 (.07 without
an effect of clusters) and .05 (.02 without one). For the first, a single share would not do, because 35 images have only 36
possible means: the coverage jumps with the share between .91 and .97. The metric `fall` is the paired difference between a rare
event before training and a very rare one after it."""


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
    in_all_seeds = IMAGE * rng.standard_normal((runs, 1, shape[2]))
    if cluster:
        in_all_seeds += cluster * rng.standard_normal((runs, 1, len(sizes)))[..., labels]
    deviation = np.sqrt(IMAGE**2 + IMAGE_IN_SEED**2 + 1.25 * cluster**2 + (design.seeds > 1) * seed**2)

    def evaluate(thresholds: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of one model and their true mean."""
        of_seed = seed * rng.standard_normal((runs, design.seeds, 1))
        values = of_seed + IMAGE_IN_SEED * rng.standard_normal(shape) + in_all_seeds
        if cluster:
            values += cluster / 2 * rng.standard_normal((*shape[:2], len(sizes)))[..., labels]
        truth = of_seed[:, 0, 0] if design.seeds == 1 else np.zeros(runs)
        if thresholds is None:
            return values, truth
        threshold = rng.uniform(*thresholds, runs)
        return (values > threshold[:, None, None]).astype(np.float64), ndtr((truth - threshold) / deviation)

    if design.metric != "fall":
        values, truth = evaluate(THRESHOLD.get(design.metric))
        return values, labels.tolist(), truth
    before, after = evaluate(THRESHOLD["rare"]), evaluate(THRESHOLD["very rare"])
    return after[0] - before[0], labels.tolist(), after[1] - before[1]


def coverage(design: Design, runs: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the share of simulated evaluations whose interval holds the true mean, and the mean width."""
    values, clusters, truth = draw(design, runs, rng)
    found = estimate(values, clusters)
    low, high = found.mean - found.half, found.mean + found.half
    if design.metric in THRESHOLD:
        low, high = share_interval(found.mean, found.half, design.images, found.clusters)
    return float(((low <= truth + 1e-12) & (truth <= high + 1e-12)).mean()), float((high - low).mean())


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
