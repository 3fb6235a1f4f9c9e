"""Does the curriculum over bags of similar images beat random bags of the same final size?

    python benchmarks/bags.py --json benchmarks/results/bags.json

There are two runs per seed with the same number of steps: BagCurri (bags of 2 growing to 20 similar images), and random
bags of 20.
"""

from __future__ import annotations

from lab_runs import metric_intervals, metric_values, parse_arguments, print_table, train, write_json

from rlcap.eval.statistics import difference_across_seeds

VARIANTS = {"all": [], "random_bags": ["curriculum={bag_size: 20, level: random}"]}
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/rd100_recall_at_1",
    "test/singles_out",
    "test/hallucination_rate",
    "test/fact_recall",
)


def main() -> None:
    """Train all variants, print the comparison and write it as JSON."""
    options = parse_arguments(__doc__, "mixes")  # the default mix with BagCurri is shared with mixes.py
    cost = train(options, VARIANTS)
    results = {
        name: {column: metric_intervals(options.out, name, options.seeds, *column.split("/")) for column in COLUMNS}
        for name in VARIANTS
    }
    print_table(
        f"Last step, and difference to the own start; 95 % intervals over {len(options.seeds)} seeds and images",
        results,
        COLUMNS,
    )
    print("\nBagCurri minus random bags, at the end:")
    gaps = {}
    for column in COLUMNS:
        split, metric = column.split("/")
        ends = [metric_values(options.out, name, options.seeds, split, metric, True) for name in ("random_bags", "all")]
        gaps[column] = difference_across_seeds(*ends)._asdict()
        print(f"  {column}: {gaps[column]['mean']:+.3f} [{gaps[column]['low']:+.3f}, {gaps[column]['high']:+.3f}]")
    write_json(options.json, seeds=options.seeds, results=results, bagcurri_minus_random=gaps, cost=cost)


if __name__ == "__main__":
    main()
