"""How long does mining bags take, how much memory does it need, and what does its approximate index miss?

    python benchmarks/bag_mining.py --count 100000 --dim 512 --threads 2 --json mining.json

The vectors are generated: `--topics` topic centres, 20 scenes around each, and images around the scenes. All are
Gaussian and then normalized, so that an image has near neighbours (its scene), further ones (its topic) and strangers,
as photos do. With `--spread` 1 the noise of an image is as large as the difference between its scene and its topic.
Pure noise would have no real neighbours, and tight clusters would flatter the index.

Everything in mining except the model is timed: building and tuning the index, searching as deep as the easy level
needs, and writing the lists. Exact search is timed separately on 1,000 queries and scaled to all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import faiss
import numpy as np

from rlcap.cli.arguments import positive
from rlcap.data import mining
from rlcap.data.bags import BagFile


def generate(count: int, dim: int, topics: int, spread: float, seed: int = 0) -> np.ndarray:
    """Return (count, dim) float32 unit vectors."""
    rng = np.random.default_rng(seed)
    topic = rng.standard_normal((topics, dim), dtype=np.float32)
    scene = topic.repeat(20, 0) + spread * rng.standard_normal((topics * 20, dim), dtype=np.float32)
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, 10_000):
        rows = vectors[start : start + 10_000]
        rows[:] = scene[rng.integers(0, len(scene), len(rows))]
        rows += spread * rng.standard_normal(rows.shape, dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors


def measure(count: int, dim: int, neighbours: int, topics: int, spread: float) -> dict[str, float | str | int]:
    """Measure one run; the keys are those of the printed table."""
    vectors = generate(count, dim, topics, spread)
    ids = [str(i) for i in range(count)]
    starts = mining.level_starts(count, neighbours)
    start = time.perf_counter()
    neighbours_found = mining.search(vectors, mining.search_depth(starts, neighbours))
    search_seconds = time.perf_counter() - start
    levels, dropped = mining.level_lists(ids, neighbours_found, starts, neighbours, near_identical=0.97)
    BagFile("generated", levels)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)

    queries = np.random.default_rng(12345).choice(count, min(1000, count), replace=False)
    start = time.perf_counter()
    exact = mining.exact_neighbours(vectors, queries, 20)
    exact_seconds = (time.perf_counter() - start) * count / len(queries)
    return {
        "vectors": count,
        "dimensions": dim,
        "index": neighbours_found.index,
        "seconds": round(seconds, 1),
        "search_seconds": round(search_seconds, 1),
        "exact_seconds": round(exact_seconds, 1),
        "speedup": round(exact_seconds / seconds, 2),
        "peak_rss_mb": round(peak),
        "recall_at_20": round(mining.measure_recall(neighbours_found.indices[queries, :20], exact), 4),
        "dropped_pairs": dropped,
    }


def main() -> None:
    """Measure one run, print it and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=positive, default=100_000, help="vectors")
    parser.add_argument("--dim", type=positive, default=512, help="dimensions")
    parser.add_argument("--neighbours", type=positive, default=32, help="ids per image and level")
    parser.add_argument("--topics", type=positive, default=100, help="topic centres")
    parser.add_argument("--spread", type=float, default=1.0, help="noise of scenes and images, in units of the topics'")
    parser.add_argument("--threads", type=positive, default=2, help="threads of faiss")
    parser.add_argument("--json", type=Path, help="write the row there")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    row = measure(arguments.count, arguments.dim, arguments.neighbours, arguments.topics, arguments.spread)
    row["threads"] = arguments.threads
    width = max(map(len, row))
    for name, value in row.items():
        print(f"{name:<{width}}  {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=2) + "\n")


if __name__ == "__main__":
    main()
