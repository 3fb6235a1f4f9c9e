"""Does PPO reach what GRPO reaches, with the same number of captions?

    python benchmarks/ppo.py --json benchmarks/results/ppo.json

Both recipes as shipped, with the lab's default mix and curriculum, 48 rounds of 8 images and 8 captions, with three
seeds. GRPO takes one step per round at a learning rate of 2e-3, PPO two at 1.5e-3. The table shows the last step and
the difference to the own start; then comes PPO minus GRPO, paired by seed and image.
"""

from __future__ import annotations

from lab_runs import metric_intervals, metric_values, parse_arguments, print_table, train, write_json

from rlcap.eval.statistics import difference_across_seeds

COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
    "test/fact_recall",
    "test/singles_out",
    "test/repetition",
    "test/mean_words",
)


def main() -> None:
    """Train with both recipes, print the comparison and write JSON."""
    options = parse_arguments(__doc__, "mixes")  # GRPO's runs are shared with mixes.py
    cost = train(options, {"all": [], "ppo": []}, {"ppo": "recipes/ppo.py"})
    results = {
        name: {column: metric_intervals(options.out, name, options.seeds, *column.split("/")) for column in COLUMNS}
        for name in cost
    }
    print_table(
        f"Last step, and difference to the own start; 95 % intervals over {len(options.seeds)} seeds", results, COLUMNS
    )
    print("\nPPO minus GRPO, at the end:")
    gaps = {}
    for column in COLUMNS:
        split, metric = column.split("/")
        ends = [metric_values(options.out, name, options.seeds, split, metric, True) for name in ("all", "ppo")]
        gaps[column] = difference_across_seeds(*ends)._asdict()
        print(f"  {column}: {gaps[column]['mean']:+.3f} [{gaps[column]['low']:+.3f}, {gaps[column]['high']:+.3f}]")
    write_json(options.json, seeds=options.seeds, results=results, ppo_minus_grpo=gaps, cost=cost)


if __name__ == "__main__":
    main()
