"""Does `rlcap probe` predict that a mix will be hacked, is it hacked in training, and does the report say so?

    python benchmarks/hacked.py --json benchmarks/results/hacked.json

Three mixes that ask for the wrong thing, and the default mix, each with three seeds on the lab. Before training, the
probes show which worse captions a mix prefers. After training, the report's over-optimization alarm shows which rewards
rose while held-out metrics got worse. `distinctive_and_long` pays for finding the image and for two to three times the
words of the paragraph, at 1.5 times the learning rate. `hallucination_alone` pays for saying nothing that the
references don't say. `unlike_each_other` pays for captions that differ within their group, at three quarters of the
learning rate.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab_runs import INTERVALS, ROOT, measure, parse_arguments, train, write_json
from mixes import PARTS

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.eval.over_optimization import describe_alarm
from rlcap.eval.report.charts import smooth
from rlcap.eval.reward_gains import reward_gain, reward_terms, smoothing_window
from rlcap.eval.summary import read_metric_rows
from rlcap.probing.probe import probe


def only(*kept: str) -> list[str]:
    """Return overrides that remove every other part from the default mix."""
    return [f"mix.{part}=null" for part in PARTS if part not in kept]


VARIANTS = {
    "all": [],
    "distinctive_and_long": [
        *only("self_retrieval", "length"),
        "mix.length.weight=0.5",
        "mix.length.params.low=2",
        "mix.length.params.high=3",
        "train.learning_rate=3.0e-3",
    ],
    "hallucination_alone": only("hallucination"),
    "unlike_each_other": [
        *only(),
        "mix.diversity.reward=rlcap.rewards.diversity:Diversity",
        "train.learning_rate=1.5e-3",
    ],
}
COLUMNS = (
    "test/bag5_recall_at_1",
    "test/hallucination_rate",
    "test/fact_recall",
    "test/grammatical",
    "test/repetition",
    "test/mean_words",
)
THRESHOLD = 0.05


def predict_failures(changes: list[str], images: int = 42) -> dict[str, float]:
    """Return probe → share of images on which it beats the good caption under the mix.

    Only shares above the threshold are returned.
    """
    config = load_config(GRPOConfig, ROOT / "recipes" / "configs" / "lab.yaml", changes)
    report = probe(config, images, "test")
    return {name: report.findings[name]["total"].wins for name in report.failed(THRESHOLD)}


def measure_rises(folder: Path) -> dict[str, float]:
    """Return term → how far it rose in training, in standard deviations within a group."""
    rows = read_metric_rows(folder)
    points = {component: reward_gain(rows, component) for component in reward_terms(rows)}
    return {component: smooth(gains, smoothing_window(gains))[-1][1] for component, gains in points.items()}


def main() -> None:
    """Probe, train and report all mixes, and write the results as JSON."""
    options = parse_arguments(__doc__, "mixes")  # two of the four are shared with mixes.py
    predicted = {name: predict_failures(changes) for name, changes in VARIANTS.items()}
    cost = train(options, VARIANTS)
    results, alarms, rises = measure(options.out, list(VARIANTS), options.seeds, COLUMNS), {}, {}
    for name in VARIANTS:
        folders = [options.out / f"{name}-{seed}" for seed in options.seeds]
        alarms[name] = {
            seed: json.loads((folder / "summary.json").read_text())["alarms"]
            for seed, folder in zip(options.seeds, folders, strict=True)
        }
        rises[name] = [measure_rises(folder) for folder in folders]
    print("| mix | probes that beat a good caption | reward's rise, in stds | what became of the captions | alarms |")
    print("| --- | --- | --- | --- | --- |")
    for name in VARIANTS:
        probes = ", ".join(f"{probe} {share:.0%}" for probe, share in predicted[name].items()) or "none"
        first = rises[name][0]
        rises_text = ", ".join(f"{part} {sum(r[part] for r in rises[name]) / len(rises[name]):+.1f}" for part in first)
        outcome = "; ".join(
            f"{column.split('/')[1]} {cell['start']['mean']:.2f} → {cell['end']['mean']:.2f}"
            for column, cell in results[name].items()
        )
        alarmed = sum(bool(seed_alarms) for seed_alarms in alarms[name].values())
        print(f"| {name} | {probes} | {rises_text} | {outcome} | {alarmed} of {len(options.seeds)} seeds |")
    for name, by_seed in alarms.items():
        for seed, seed_alarms in by_seed.items():
            for alarm in seed_alarms:
                print(f"{name}, seed {seed}, {alarm['split']}: {describe_alarm(alarm)}")
    write_json(
        options.json,
        intervals=INTERVALS,
        seeds=options.seeds,
        probes=predicted,
        results=results,
        alarms=alarms,
        rises=rises,
        cost=cost,
    )


if __name__ == "__main__":
    main()
