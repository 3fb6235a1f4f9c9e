"""Does the curriculum over bags of similar images beat random bags of the same final size?

    python benchmarks/bags.py --json benchmarks/results/bags.json

There are two runs per seed with the same number of steps: BagCurri (bags of 2 growing to 20 similar images), and random
bags of 20.
"""

from __future__ import annotations

from lab_runs import INTERVALS, gap, measure, parse_arguments, print_table, train, write_json

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
    results = measure(options.out, list(VARIANTS), options.seeds, COLUMNS)
    print_table(
        f"Last step, and difference to the own start; 95 % intervals over {len(options.seeds)} seeds and clusters of images",
        results,
        COLUMNS,
    )
    print("\nBagCurri minus random bags, at the end:")
    gaps = {column: gap(options.out, ("random_bags", "all"), options.seeds, column) for column in COLUMNS}
    write_json(
        options.json, intervals=INTERVALS, seeds=options.seeds, results=results, bagcurri_minus_random=gaps, cost=cost
    )


if __name__ == "__main__":
    main()
