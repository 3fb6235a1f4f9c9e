"""What does each reward alone make of a captioner, and what does the mix?

    python benchmarks/mixes.py --json benchmarks/results/mixes.json

Four mixes, each over three seeds, on the lab: self-retrieval alone, hallucination alone, critique alone, and the default
mix of all. Length gate, repetition, grammar and style guards are part of the last only.
"""

from __future__ import annotations

from lab_runs import arguments, row, show, train, write_json

PARTS = ("self_retrieval", "hallucination", "critique", "length", "repetition", "grammar", "style")
VARIANTS = {"all": []} | {
    f"{kept} alone": [f"mix.{part}=null" for part in PARTS if part != kept]
    for kept in ("self_retrieval", "hallucination", "critique")
}
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
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
    asked = arguments(__doc__, "mixes")
    variants = {name.replace(" ", "_"): changes for name, changes in VARIANTS.items()}
    cost = train(asked, variants)
    results = {
        name: {column: row(asked.out, name, asked.seeds, *column.split("/")) for column in COLUMNS} for name in variants
    }
    show(
        f"Last step, and difference to the own start; 95 % intervals over {len(asked.seeds)} seeds and images",
        results,
        COLUMNS,
    )
    write_json(asked.json, seeds=asked.seeds, results=results, cost=cost)


if __name__ == "__main__":
    main()
