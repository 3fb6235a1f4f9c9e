"""What does credit to claims do, and how good must a judge be? Training with the lab's oracle, at several settings of both.

    python benchmarks/credit.py --json benchmarks/results/credit.json

All runs train recipes/configs/lab_oracle.yaml, whose judge reads the lab's truth.

- `share`: share λ of a reward that goes to the sentences it speaks of instead of to the whole caption, with a judge that misreads 3 %
  of an image. λ = 0 is credit to captions.
- `misreads`: share of an image's attributes that the judge takes for others, with credit to captions and with λ = .2; the first seed only.
"""

from __future__ import annotations

from lab_runs import INTERVALS, measure, parse_arguments, train, write_json

CONFIG = "--config=recipes/configs/lab_oracle.yaml"
SHARES = (0.0, 0.1, 0.2, 0.5, 1.0)
MISREADS = (0.0, 0.03, 0.1, 0.2, 0.3)
USUAL_MISREADS, USUAL_SHARE = 0.03, 0.2
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
    "test/hallucinated",
    "test/fact_recall",
    "test/wrong_unseen",
)


def name_of(share: float, misreads: float) -> str:
    """Return the name of a variant, which is also that of its folders."""
    return f"share{share:g}_misreads{misreads:g}"


def overrides_of(share: float, misreads: float) -> list[str]:
    """Return the changes that make a variant of the mix with the oracle."""
    return [
        CONFIG,
        "train.credit=claim",
        f"train.credit_share={share}",
        f"mix.critique.credit_share={share}",
        f"mix.hallucination.credit_share={share}",
        f"mix.critique.params.judge.backend.misreads={misreads}",
    ]


def main() -> None:
    """Train all variants, print both tables and write JSON."""
    options = parse_arguments(__doc__, "credit")
    shares = {name_of(share, USUAL_MISREADS): overrides_of(share, USUAL_MISREADS) for share in SHARES}
    judges = {
        name_of(share, misreads): overrides_of(share, misreads) for misreads in MISREADS for share in (0.0, USUAL_SHARE)
    }
    cost = train(options, shares)
    options.seeds, seeds = options.seeds[:1], options.seeds
    cost |= train(options, {name: changes for name, changes in judges.items() if name not in shares})

    by_share = measure(options.out, list(shares), seeds, COLUMNS)
    by_judge = measure(options.out, list(judges), seeds[:1], COLUMNS)
    rows = {
        "share": {f"{share:g}": by_share[name_of(share, USUAL_MISREADS)] for share in SHARES},
        "misreads": {
            f"{misreads:g}": {
                credit: by_judge[name_of(share, misreads)]
                for credit, share in (("caption", 0.0), ("claim", USUAL_SHARE))
            }
            for misreads in MISREADS
        },
    }
    print(f"share of the credit that goes to claims, judge that misreads {USUAL_MISREADS:.0%}; last step\n")
    print_rows({f"λ = {share}": row for share, row in rows["share"].items()})
    print("\nhow much the judge misreads, without and with credit to claims; last step\n")
    print_rows(
        {
            f"misreads {float(misreads):.0%}, {credit}": row
            for misreads, by_credit in rows["misreads"].items()
            for credit, row in by_credit.items()
        }
    )
    write_json(
        options.json,
        intervals=INTERVALS,
        seeds=seeds,
        overrides=options.overrides,
        usual_misreads=USUAL_MISREADS,
        usual_share=USUAL_SHARE,
        cost=cost,
        **rows,
    )


def print_rows(rows: dict[str, dict]) -> None:
    """Print the ends of the metrics with their intervals, one line for each variant."""
    print("| variant | " + " | ".join(column.split("/")[1] for column in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, row in rows.items():
        ends = [row[column]["end"] for column in COLUMNS]
        print(f"| {name} | " + " | ".join("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**end) for end in ends) + " |")


if __name__ == "__main__":
    main()
