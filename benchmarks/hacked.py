"""Are hacked mixes foreseen by `rlcap probe`, hacked in training, and called so by the report?

    python benchmarks/hacked.py --json benchmarks/results/hacked.json

Three mixes that ask for the wrong thing, and the default one, each over three seeds on the lab. Before training the probes
say which worse captions a mix likes better; after it the divergence alarm of the report says which rewards rose while
held-out metrics got worse. `distinctive_and_long` pays for finding the image and for two to three times the words of the
paragraph at 1.5 times the learning rate, `hallucination_alone` for saying nothing that the references don't say,
`unlike_each_other` for captions that differ within their group, at three quarters of it.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab_runs import ROOT, arguments, row, train, write_json
from mixes import PARTS

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.eval.over_optimization import describe_alarm
from rlcap.eval.report.charts import smooth
from rlcap.eval.reward_gains import reward_gain, reward_terms, smoothing_window
from rlcap.eval.summary import read_metric_rows
from rlcap.probing.probe import probe


def only(*kept: str) -> list[str]:
    """Overrides that take every other part out of the default mix."""
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


def foreseen(changes: list[str], images: int = 42) -> dict[str, float]:
    """Probe → share of images on which it beats the good caption by the mix, of those above the threshold."""
    config = load_config(GRPOConfig, ROOT / "recipes" / "configs" / "lab.yaml", changes)
    found = probe(config, images, "test")
    return {name: found.findings[name]["total"].wins for name in found.failed(THRESHOLD)}


def rise(folder: Path) -> dict[str, float]:
    """Component → how far it rose in training, in standard deviations within a group."""
    rows = read_metric_rows(folder)
    points = {component: reward_gain(rows, component) for component in reward_terms(rows)}
    return {component: smooth(found, smoothing_window(found))[-1][1] for component, found in points.items()}


def main() -> None:
    asked = arguments(__doc__, "mixes")  # two of the four are shared with mixes.py
    predicted = {name: foreseen(changes) for name, changes in VARIANTS.items()}
    cost = train(asked, VARIANTS)
    results, alarms, rises = {}, {}, {}
    for name in VARIANTS:
        folders = [asked.out / f"{name}-{seed}" for seed in asked.seeds]
        results[name] = {column: row(asked.out, name, asked.seeds, *column.split("/")) for column in COLUMNS}
        alarms[name] = {
            seed: json.loads((folder / "summary.json").read_text())["alarms"]
            for seed, folder in zip(asked.seeds, folders, strict=True)
        }
        rises[name] = [rise(folder) for folder in folders]
    print("| mix | probes that beat a good caption | reward's rise, in stds | what became of the captions | alarms |")
    print("| --- | --- | --- | --- | --- |")
    for name in VARIANTS:
        probes = ", ".join(f"{probe} {share:.0%}" for probe, share in predicted[name].items()) or "none"
        first = rises[name][0]
        risen = ", ".join(f"{part} {sum(r[part] for r in rises[name]) / len(rises[name]):+.1f}" for part in first)
        became = "; ".join(
            f"{column.split('/')[1]} {cell['start']['mean']:.2f} → {cell['end']['mean']:.2f}"
            for column, cell in results[name].items()
        )
        fired = sum(bool(found) for found in alarms[name].values())
        print(f"| {name} | {probes} | {risen} | {became} | {fired} of {len(asked.seeds)} seeds |")
    for name, by_seed in alarms.items():
        for seed, found in by_seed.items():
            for alarm in found:
                print(f"{name}, seed {seed}, {alarm['split']}: {describe_alarm(alarm)}")
    write_json(asked.json, seeds=asked.seeds, probes=predicted, results=results, alarms=alarms, rises=rises, cost=cost)


if __name__ == "__main__":
    main()
