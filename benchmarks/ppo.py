"""Does PPO reach what GRPO reaches, with the same number of captions?

    python benchmarks/ppo.py --json benchmarks/results/ppo.json

Both recipes as shipped, with the lab's default mix and curriculum, 64 rounds of 8 images and 8 captions, with three
seeds. GRPO takes one step per round at a learning rate of 2e-3, PPO two at 1.5e-3. The table shows the last step and
the difference to the own start; then comes PPO minus GRPO, paired by seed and image.
"""

from __future__ import annotations

from lab_runs import INTERVALS, gap, measure, parse_arguments, print_table, train, write_json

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
    results = measure(options.out, list(cost), options.seeds, COLUMNS)
    print_table(
        f"Last step, and difference to the own start; 95 % intervals over {len(options.seeds)} seeds", results, COLUMNS
    )
    print("\nPPO minus GRPO, at the end:")
    gaps = {column: gap(options.out, ("all", "ppo"), options.seeds, column) for column in COLUMNS}
    write_json(options.json, intervals=INTERVALS, seeds=options.seeds, results=results, ppo_minus_grpo=gaps, cost=cost)


if __name__ == "__main__":
    main()
