"""Does PPO reach what GRPO reaches, with the same number of captions?

    python benchmarks/ppo.py --json benchmarks/results/ppo.json

Both recipes as shipped, with the lab's default mix and curriculum, 48 rounds of 8 images and 8 captions, over three seeds: GRPO
takes a step a round at a learning rate of 2e-3, PPO two at 1.5e-3. Last step and difference to the own start; then PPO
minus GRPO, seed by seed and image by image.
"""

from __future__ import annotations

from lab_runs import arguments, row, show, train, values, write_json

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
    asked = arguments(__doc__, "mixes")  # GRPO's runs are shared with mixes.py
    cost = train(asked, {"all": [], "ppo": []}, {"ppo": "recipes/ppo.py"})
    results = {
        name: {column: row(asked.out, name, asked.seeds, *column.split("/")) for column in COLUMNS} for name in cost
    }
    show(f"Last step, and difference to the own start; 95 % intervals over {len(asked.seeds)} seeds", results, COLUMNS)
    print("\nPPO minus GRPO, at the end:")
    gaps = {}
    for column in COLUMNS:
        split, metric = column.split("/")
        ends = [values(asked.out, name, asked.seeds, split, metric, True) for name in ("all", "ppo")]
        gaps[column] = difference_across_seeds(*ends)._asdict()
        print(f"  {column}: {gaps[column]['mean']:+.3f} [{gaps[column]['low']:+.3f}, {gaps[column]['high']:+.3f}]")
    write_json(asked.json, seeds=asked.seeds, results=results, ppo_minus_grpo=gaps, cost=cost)


if __name__ == "__main__":
    main()
