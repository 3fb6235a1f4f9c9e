"""Where does the listener fail? The default mix with other listeners, and from a base that shares the habits of its captions.

    python benchmarks/listeners.py --json benchmarks/results/listeners.json

- `default`: the frozen base, which learnt true captions.
- `the adapter listens`: the maximum-likelihood adapter that training starts from, so that nobody knows better than the captioner.
- `against a blank image`: a token is compared with what a grey image makes of it, instead of other images.
- `without own`: the likelihood given the own image counts nothing of its own.
- `base web`: captioner and listener have learnt from short captions with habits and errors (recipes/configs/lab_web.yaml).

No judge that reads the lab's truth takes part.
"""

from __future__ import annotations

from lab_runs import INTERVALS, measure, parse_arguments, print_table, train, write_json

VARIANTS = {
    "default": [],
    "adapter_listens": ["mix.listener.params.model=lab:captioner", "mix.listener.params.adapter=lab:adapter"],
    "blank": ["mix.listener.params.against=blank"],
    "without_own": ["mix.listener.params.own=0"],
    "web": ["--config=recipes/configs/lab_web.yaml"],
}
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
    "test/hallucinated",
    "test/fact_recall",
    "test/wrong_unseen",
    "test/mean_words",
)


def main() -> None:
    """Train all variants, print the table and write JSON."""
    options = parse_arguments(__doc__, "listeners")
    cost = train(options, VARIANTS)
    results = measure(options.out, list(VARIANTS), options.seeds, COLUMNS)
    print_table("Last step, and difference to the own start", results, COLUMNS)
    write_json(
        options.json, intervals=INTERVALS, seeds=options.seeds, overrides=options.overrides, results=results, cost=cost
    )


if __name__ == "__main__":
    main()
