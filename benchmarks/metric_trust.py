"""Which metric can be trusted to choose a run? Rank correlation of each metric with the lab's truth, over trained captioners.

    python benchmarks/mixes.py; python benchmarks/hacked.py       train captioners that differ; their runs are read here
    python benchmarks/metric_trust.py --json benchmarks/results/metric_trust.json

Truth is the lab's score of a caption: the harmonic mean of the shares of its claims that are true and of the scene's facts that it states,
times its share of grammatical sentences. Each finished run counts with the
mean over its test captions; seeds of a mix are separate runs. A metric of 1 would choose as the truth does, −1 the opposite. The
brackets are a bootstrap over mixes. Metrics from references and from retrievers cost no more than the captions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from lab_runs import ROOT, write_json
from scipy.stats import spearmanr

from rlcap.cli.reward_metrics import reward_metrics
from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.data.captions import to_batch
from rlcap.data.source import instruction_for, load_splits
from rlcap.eval.captions_file import Table, evaluated_steps, read_tables
from rlcap.eval.metric_catalog import metric_info
from rlcap.lab.truth import LabTruth
from rlcap.reward.context import reward_context

SPLIT = "test"
HELD_OUT = ("bag3_recall_at_1", "bag5_recall_at_1", "bag7_recall_at_1", "rd100_recall_at_1", "rd100_mean_rank", "mean_words", "repetition",
            "repeated_sentences", "distinct_2", "corpus_distinct_2")  # fmt: skip
REWARDS = {
    "cider": {"reward": "cider"},
    "bleu": {"reward": "bleu"},
    "rouge": {"reward": "rouge"},
    "nli": {"reward": "hallucination", "params": {"nli": "lab:nli", "form": "sentences", "alpha": 1.0, "each_reference": False}},
    "grammar": {"reward": "grammar", "params": {"model": "lab:grammar"}},
    "self_retrieval": {"reward": "self_retrieval", "params": {"clip": "local-dir:lab:retriever"}},
}  # fmt: skip
DRAWS = 2000


def rank_correlation(values: np.ndarray, truth: np.ndarray, mixes: list[str]) -> dict[str, float]:
    """Return Spearman's correlation over runs, with a 95 % interval by a bootstrap over mixes."""
    rng = np.random.default_rng(0)
    names = sorted(set(mixes))
    rows = {name: [i for i, own in enumerate(mixes) if own == name] for name in names}
    drawn = []
    for _ in range(DRAWS):
        chosen = [i for name in rng.choice(names, len(names)) for i in rows[name]]
        if len(set(values[chosen])) > 1 and len(set(truth[chosen])) > 1:
            drawn.append(spearmanr(values[chosen], truth[chosen]).statistic)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"mean": float(spearmanr(values, truth).statistic), "low": float(low), "high": float(high)}


def read_runs(folders: list[Path]) -> dict[Path, Table]:
    """Return the last test captions of each finished run."""
    runs = sorted(folder for root in folders for folder in root.glob("*") if (folder / "summary.json").exists())
    return {run: read_tables(run, evaluated_steps(run)[-1])[SPLIT] for run in runs}


def main() -> None:
    """Measure all runs, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs",
        type=Path,
        nargs="*",
        default=[Path("runs/mixes")],
        help="folders of runs NAME-SEED (default: runs/mixes)",
    )
    parser.add_argument(
        "--config", type=Path, default=ROOT / "recipes" / "configs" / "lab.yaml", help="configuration of the data"
    )
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    tables = read_runs(options.runs)
    mixes = [run.name.rpartition("-")[0] for run in tables]
    if len(set(mixes)) < 4:
        raise SystemExit(
            f"{len(set(mixes))} mixes are too few for a rank correlation: train benchmarks/mixes.py and hacked.py first"
        )
    config = load_config(GRPOConfig, options.config, [])
    splits, _ = load_splits(config.data)
    known = {sample.id: sample for sample in splits[SPLIT]}
    context = reward_context(
        (sample.image for sample in known.values()),
        base=config.model.base,
        instruction=instruction_for(config.data),
        device="cpu",
    )
    truth, columns = [], {name: [] for name in (*HELD_OUT, *REWARDS)}
    for run, table in tables.items():
        print(run, flush=True)
        samples = [known[id] for id in table.ids]
        truth.append(
            np.mean([LabTruth().score(caption, s) for caption, s in zip(table.captions, samples, strict=True)])
        )
        rows = [{"sample_id": id, "caption": caption} for id, caption in zip(table.ids, table.captions, strict=True)]
        found = reward_metrics(REWARDS, to_batch(rows, known), context)
        for name in HELD_OUT:
            columns[name].append(float(np.nanmean(table.metrics[name])))
        for name in REWARDS:
            columns[name].append(float(np.nanmean(found.values[name])))
    results = {}
    for name, values in columns.items():
        sign = metric_info(name).better or 1
        results[name] = rank_correlation(sign * np.array(values), np.array(truth), mixes)
    print("| metric | rank correlation with truth |\n|---|---|")
    for name, values in sorted(results.items(), key=lambda item: -item[1]["mean"]):
        print(f"| {name} | {values['mean']:+.2f} [{values['low']:+.2f}, {values['high']:+.2f}] |")
    write_json(options.json, runs=len(tables), mixes=sorted(set(mixes)), images=len(known), results=results)


if __name__ == "__main__":
    main()
