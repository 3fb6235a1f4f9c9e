"""What does each reward alone make of a captioner, and what does the mix make of it?

    python benchmarks/mixes.py --json benchmarks/results/mixes.json

Five mixes, each with three seeds, on the lab: self-retrieval alone, the listener alone, hallucination alone, the default
mix of all, and the mix with an oracle in place of the listener. Only the last two contain the length gate and the
repetition, grammar and style guards, and only the last one asks a judge that reads the lab's truth.
"""

from __future__ import annotations

from lab_runs import INTERVALS, measure, parse_arguments, print_table, train, write_json

PARTS = ("self_retrieval", "listener", "hallucination", "length", "repetition", "grammar", "style")
VARIANTS = {
    "all": [],
    **{
        f"{kept} alone": [f"mix.{part}=null" for part in PARTS if part != kept]
        for kept in ("self_retrieval", "listener", "hallucination")
    },
    "oracle": ["--config=recipes/configs/lab_oracle.yaml"],
}
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
    "test/hallucinated",
    "test/hallucination_rate_unseen",
    "test/wrong_unseen",
    "test/fact_recall",
    "test/mean_words",
    "test/repetition",
    "test/grammatical",
    "prior_breaking/hallucination_rate",
    "prior_breaking/hallucination_rate_unseen",
    "prior_breaking/wrong_unseen",
)


def main() -> None:
    """Train all mixes, print the table and write JSON."""
    options = parse_arguments(__doc__, "mixes")
    variants = {name.replace(" ", "_"): changes for name, changes in VARIANTS.items()}
    cost = train(options, variants)
    results = measure(options.out, list(variants), options.seeds, COLUMNS)
    print_table(
        f"Last step, and difference to the own start; 95 % intervals over {len(options.seeds)} seeds and clusters of images",
        results,
        COLUMNS,
    )
    write_json(options.json, intervals=INTERVALS, seeds=options.seeds, results=results, cost=cost)


if __name__ == "__main__":
    main()
