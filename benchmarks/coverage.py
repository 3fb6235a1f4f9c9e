"""How often do the 95 % intervals hold the truth, and how often did those of rlcap 0.1?

    python benchmarks/coverage.py --json benchmarks/results/coverage.json

Simulated evaluations of 35 to 1,000 images in 5 to 44 clusters by 1 to 5 seeds, with and without effects of clusters and
of seeds, for a continuous metric, for a share between .2 and .8, for rare events, and for the fall of one. The earlier method is the
percentile bootstrap over images and seeds. The last table asks whether the images of overlapping bags are dependent: it
compares the variance of R@1 over simulated data sets with the variance that independent images would have.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from coverage_designs import Design, bootstrap_coverage, coverage
from lab_runs import write_json

SEEDS, CLUSTERS, IMAGES = (1, 2, 3, 5), (5, 20, 44), (35, 308, 1000)
METRICS = ("continuous", "binary", "rare", "very rare", "fall")
OLD_RUNS, BAG_RUNS = 1000, 1500


def designs() -> list[Design]:
    """Return the designs, without effects of seeds where there is one seed."""
    return [
        Design(seeds, clusters, images, cluster_effect, seed_effect, metric)
        for seeds, clusters, images, cluster_effect, metric in product(
            SEEDS, CLUSTERS, IMAGES, ("none", "strong"), METRICS
        )
        for seed_effect in (("none", "moderate", "strong") if seeds > 1 else ("none",))
    ]


def measure(design: Design, runs: int, number: int) -> dict:
    """Return the coverage and the mean width of both methods for one design."""
    new, width = coverage(design, runs, np.random.default_rng([1, number]))
    old, old_width = bootstrap_coverage(design, min(runs, OLD_RUNS), np.random.default_rng([2, number]))
    about = {name: getattr(design, name) for name in ("seeds", "clusters", "images", "cluster_effect", "seed_effect")}
    return {**about, "metric": design.metric, "new": new, "old": old, "width": width, "old_width": old_width}


def summarise(rows: list[dict]) -> list[dict]:
    """Return the lowest, median and highest coverage for each metric, number of seeds and kind of effects."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["metric"], row["seeds"], row["cluster_effect"], row["seed_effect"]), []).append(row)
    table = []
    for (metric, seeds, cluster_effect, seed_effect), members in groups.items():
        line = {"metric": metric, "seeds": seeds, "cluster_effect": cluster_effect, "seed_effect": seed_effect}
        for method in ("old", "new"):
            shares = [member[method] for member in members]
            line[method] = [min(shares), float(np.median(shares)), max(shares)]
        table.append(line)
    order = {name: i for i, name in enumerate((*METRICS, "none", "moderate", "strong"))}
    return sorted(
        table, key=lambda t: (order[t["metric"]], t["seeds"], order[t["cluster_effect"]], order[t["seed_effect"]])
    )


def bag_dependence(images: int, dimensions: int, noise: float, runs: int) -> dict:
    """Simulate R@1 in bags of five on data sets of random directions, whose bags are the four nearest neighbours.

    Returns:
        The mean R@1; its variance over data sets, divided by the mean variance that independent images would have; and
        the share of data sets whose interval over images holds the mean.
    """
    rng = np.random.default_rng([3, images, dimensions])
    hits = np.empty((runs, images))
    for run in range(runs):
        image = rng.standard_normal((images, dimensions))
        image /= np.linalg.norm(image, axis=1, keepdims=True)
        caption = image + noise * rng.standard_normal(image.shape) / dimensions**0.5
        similar = image @ image.T
        np.fill_diagonal(similar, -2)
        bag = np.argpartition(-similar, 4, axis=1)[:, :4]
        hits[run] = (caption * image).sum(1) > np.einsum("nd,nkd->nk", caption, image[bag]).max(1)
    means, errors = hits.mean(1), hits.std(1, ddof=1) / images**0.5
    inside = np.abs(means - means.mean()) <= 1.98 * errors
    return {
        "images": images,
        "dimensions": dimensions,
        "recall": float(means.mean()),
        "variance_ratio": float(means.var() / (errors**2).mean()),
        "coverage": float(inside.mean()),
    }


def main() -> None:
    """Simulate, print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=4000, help="simulated evaluations per design (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    rows = []
    for number, design in enumerate(designs()):
        runs = options.runs if design.images <= 308 else options.runs // 2
        rows.append(measure(design, runs, number))
    table = summarise(rows)
    print("| metric | seeds | effect of clusters | effect of seeds | earlier method | now |")
    print("| --- | --- | --- | --- | --- | --- |")
    for line in table:
        old, new = (f"{line[m][1]:.3f} ({line[m][0]:.3f} to {line[m][2]:.3f})" for m in ("old", "new"))
        effects = f"{line['cluster_effect']} | {line['seed_effect']}"
        print(f"| {line['metric']} | {line['seeds']} | {effects} | {old} | {new} |")
    bags = [
        bag_dependence(images, dimensions, noise, BAG_RUNS)
        for (dimensions, noise), images in product(((4, 0.3), (4, 1.0), (16, 2.0), (64, 3.0)), (40, 308))
    ]
    print("\n| images | dimensions | R@1 in bags of 5 | variance / that of independent images | coverage |")
    print("| --- | --- | --- | --- | --- |")
    for bag in bags:
        numbers = f"{bag['recall']:.2f} | {bag['variance_ratio']:.2f} | {bag['coverage']:.3f}"
        print(f"| {bag['images']} | {bag['dimensions']} | {numbers} |")
    write_json(options.json, runs=options.runs, table=table, designs=rows, bags=bags)


if __name__ == "__main__":
    main()
