"""What does a false caption gain from a hedge, under each form of the hallucination reward?

    python benchmarks/hedges.py --foil DIR --nli DIR --json benchmarks/results/hedges.json

Each caption of nocaps-FOIL with one wrong word is judged as it is, with "There might be" before it, and with "Maybe"
before it, by fidelity alone (alpha 1), on its own references. `gain` is the mean of hedged minus plain values, with a
95 % interval, in units of a reward in [-1, 1]; `rises` is the share of captions that gain anything. The
folder of --foil holds nocaps_foil.json, that of --nli an NLI cross-encoder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import folder, positive
from rlcap.eval.statistics import mean_interval
from rlcap.rewards.hallucination import Hallucination
from rlcap.types import RewardBatch, Sample

# isort: split
# Without the split, a folder `runs` in the root changes where ruff sorts this import.
from lab_runs import INTERVALS, write_json

FORMS = ("mocha", "sentences", "grounded")
HEDGES = ("There might be", "Maybe")
RISE = 1e-3
"""A smaller gain is only the encoder's rounding."""


def add_hedge(caption: str, hedge: str) -> str:
    """Return a hedged caption: "A dog sits." gives "There might be a dog sits.".

    The grammar may be wrong, because a policy would write it like this too.
    """
    return f"{hedge} {caption[:1].lower()}{caption[1:]}"


def measure_gains(reward: Any, captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Return hedge → hedged minus plain value of each caption."""
    texts = [*captions, *(add_hedge(caption, hedge) for hedge in HEDGES for caption in captions)]
    samples = [Sample(str(i), "", tuple(texts_known)) for i, texts_known in enumerate(references)] * (1 + len(HEDGES))
    values = [score.value for score in reward.score(RewardBatch(texts, samples))]
    n = len(captions)
    return {hedge: [values[(k + 1) * n + i] - values[i] for i in range(n)] for k, hedge in enumerate(HEDGES)}


def main() -> None:
    """Measure all forms, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foil", type=folder, required=True, help="folder with nocaps_foil.json")
    parser.add_argument("--nli", type=folder, required=True, help="folder of an NLI cross-encoder")
    parser.add_argument("--count", type=positive, default=120, help="captions (default: %(default)s)")
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    args = parser.parse_args()
    from rlcap.scorers.nli import NliScorer

    rows = json.loads((args.foil / "nocaps_foil.json").read_text(encoding="utf-8"))[: args.count]
    captions, references = [row["foil"].strip() for row in rows], [row["references"] for row in rows]
    nli, results = NliScorer.load(str(args.nli)), {}
    print("| form | hedge | gain | rises |\n|---|---|---|---|")
    for form in args.forms:
        for hedge, caption_gains in measure_gains(
            Hallucination(nli, form=form, alpha=1.0), captions, references
        ).items():
            mean, rises = mean_interval(caption_gains), sum(gain > RISE for gain in caption_gains) / len(caption_gains)
            results[f"{form}, {hedge}"] = {**mean._asdict(), "rises": rises}
            print(
                f"| {form} | {hedge} | {mean.mean:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}] | {rises:.0%} |", flush=True
            )
    write_json(args.json, intervals=INTERVALS, captions=len(captions), results=results)


if __name__ == "__main__":
    main()
