"""Do the same recipes run on real photos, by config and paths alone, and what do the held-out photos show?

    python benchmarks/real_photos.py --coco DIR --nli DIR [--tower FILE] [--pope DIR] --json benchmarks/results/real_photos.json

The folder of `--coco` holds `images/` and `annotations/captions_val2017.json`; that file may list thousands of images
of which only some are there. `--nli` is a folder with an NLI cross-encoder, for the hallucination reward. The benchmark
first makes what a user would download (benchmarks/photo_models.py), from the training photos and from captions whose
images are not there. On these captions it also trains the NLI model and, from its encoder, a model of grammar, as
`rlcap nli` and `rlcap grammar` would; the images of `--pope`'s captions are left out, so that
benchmarks/reward_quality.py may measure the model on them. Then come a user's commands, as in the README: sft, bags
mine, grpo. The report is the run's own.

The photos are few: the table says what changed on the held-out ones, with paired 95 % intervals over images, and
nothing more. The evaluation uses the NLI model as it was before this training. It is a relative of the reward's model,
and no independent witness.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from photo_models import build

from rlcap.cli.arguments import folder, positive
from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import SFTConfig
from rlcap.data.source import load_splits
from rlcap.eval.metric_catalog import metric_info, reading_order
from rlcap.eval.metrics.retrieval import recall_at_1
from rlcap.eval.summary import read_summary
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.training.grammar import fine_tune as teach_grammar
from rlcap.scorers.training.nli import fine_tune as teach_nli
from rlcap.types import Sample

# isort: split
# Without the split, a folder `runs` in the root changes where ruff sorts this import.
from lab_runs import INTERVALS, ROOT, write_json

CONFIGS = "recipes/configs"
NLI_STEPS, GRAMMAR_STEPS = 1_500, 400
NEIGHBOURS = 128
"""Similar images for each image. The held-out photos' bags are drawn among themselves: with a quarter of the photos
held out, only a quarter of each list remains."""


def captions_without_photo(captions: Path, images: Path, pope: Path | None = None) -> list[list[str]]:
    """Return captions of images that are in no split, because they are not here, and of which POPE has no captions.

    They are grouped by image, two or more for each.
    """
    data = json.loads(captions.read_text())
    here = {path.name for path in images.iterdir()}
    pope_files = pope.glob("*.json") if pope else ()
    measured = {row["image_id"] for path in pope_files for row in json.loads(path.read_text())}
    groups: dict[int, list[str]] = {
        row["id"]: [] for row in data["images"] if row["file_name"] not in here and row["id"] not in measured
    }
    for row in data["annotations"]:
        if row["image_id"] in groups:
            groups[row["image_id"]].append(row["caption"].strip())
    return [group for group in groups.values() if len(group) > 1]


def train_text_models(models: Path, nli: Path, images: Sequence[Sequence[str]], scale: float) -> dict[str, Any]:
    """Train `models`/nli and `models`/grammar, unless they are there.

    Returns:
        How well they separate right from wrong, and the seconds it took.
    """
    if (results_file := models / "taught.json").exists():
        return json.loads(results_file.read_text())
    start, steps = time.time(), [max(2, round(total * scale)) for total in (NLI_STEPS, GRAMMAR_STEPS)]
    before, after = teach_nli(str(nli), images, models / "nli", steps[0])
    middle = time.time()
    accuracy = teach_grammar(str(nli), [text for texts in images for text in texts], models / "grammar", steps[1])
    results = {
        "images": len(images),
        "nli_auc": {"before": round(before, 4), "after": round(after, 4)},
        "grammar_accuracy": round(accuracy, 4),
        "seconds": {"nli": round(middle - start, 1), "grammar": round(time.time() - middle, 1)},
    }
    results_file.write_text(json.dumps(results))
    return results


def human_recall(folder: Path, samples: Sequence[Sample], cache: Path) -> float:
    """Return R@1 of the humans' own captions among all of `samples`, as the mean over captions.

    It says how good a retriever is as a metric.
    """
    scorer = ClipScorer.load(f"local-dir:{folder}", cache_dir=cache)
    images = scorer.image_embeddings([sample.image for sample in samples]).numpy()
    rows = [(i, text) for i, sample in enumerate(samples) for text in sample.references]
    texts = scorer.text_embeddings([text for _, text in rows]).vectors.numpy()
    bags = [(own, *(j for j in range(len(samples)) if j != own)) for own, _ in rows]
    return float(np.mean(recall_at_1(texts, images, bags)))


def launch(log: Path, *command: str) -> float:
    """Run one of the user's commands with its output in a file, and return its seconds."""
    print("$", " ".join(command), flush=True)
    start = time.time()
    with log.open("w") as file:
        code = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        ).returncode  # fmt: skip
    if code:
        sys.exit(f"exit code {code}; the end of {log}:\n{log.read_text()[-3000:]}")
    return round(time.time() - start, 1)


def main() -> None:
    """Make the models, run the recipes, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=folder, required=True, help="folder with images/ and annotations/")
    parser.add_argument("--nli", type=folder, required=True, help="folder of an NLI cross-encoder")
    parser.add_argument("--pope", type=folder, help="POPE's captions, whose images teach nothing")
    parser.add_argument("--tower", type=Path, help="ImageNet weights of EfficientNet-Lite0; without them it is random")
    parser.add_argument("--out", type=Path, default=Path("runs/real-photos"), help="default: %(default)s")
    parser.add_argument("--seeds", type=positive, default=3, help="training runs (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times every number of steps; 0.01 is a smoke test")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    out, coco = options.out.resolve(), options.coco.resolve()
    if options.scale != 1:  # a smoke test's models must not be taken for real ones
        out = out / f"scale-{options.scale:g}"
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("RLCAP_CACHE", str(out / "cache"))
    captions, images = coco / "annotations" / "captions_val2017.json", coco / "images"
    data = [f"data.source={captions}", f"data.image_root={images}"]

    def steps(total: int) -> int:
        return max(2, round(total * options.scale))

    config = load_config(GRPOConfig, ROOT / CONFIGS / "photos_grpo.yaml", data)
    splits, lines = load_splits(config.data)
    print("\n".join(lines))

    models, built = out / "models", out / "models" / "seconds.json"
    if not built.exists():
        start = time.time()
        texts = captions_without_photo(captions, images)
        build(models, splits["train"], texts, options.tower, lambda line: print(line, flush=True), options.scale)
        built.write_text(json.dumps(round(time.time() - start, 1)))
    trained = train_text_models(
        models, options.nli, captions_without_photo(captions, images, options.pope), options.scale
    )
    if trained["images"] != (count := len(captions_without_photo(captions, images, options.pope))):
        sys.exit(
            f"{models} was taught by {trained['images']} images, with this --pope it would be {count}: give another --out"
        )
    seconds = {"models": json.loads(built.read_text()), **trained["seconds"]}
    print(f"AUC of the NLI model on captions of images that it was not trained on: {trained['nli_auc']}")
    print(f"Accuracy of the grammar model on sentences that it was not trained on: {trained['grammar_accuracy']}")
    human_recalls = {
        name: human_recall(models / name, splits["test"], out / "cache") for name in ("reward", "evaluation")
    }
    print(f"R@1 of human captions among the {len(splits['test'])} held-out photos: {human_recalls}")

    sft_steps = load_config(SFTConfig, ROOT / CONFIGS / "photos_sft.yaml").train.steps

    recipe = ("accelerate.commands.launch", "--config_file", "launch/accelerate/cpu.yaml")
    base, clip = f"model.base={models / 'captioner'}", f"local-dir:{models / 'reward'}"
    seconds["sft"] = launch(
        out / "sft.log", *recipe, "recipes/sft.py", "--config", f"{CONFIGS}/photos_sft.yaml",
        "--output_dir", str(out / "sft"), *data, base, f"train.steps={steps(sft_steps)}",
    )  # fmt: skip
    seconds["bags"] = launch(
        out / "bags.log", "rlcap.cli.main", "bags", "mine", str(captions), "--image-root", str(images), "--on-bad", "skip",
        "--clip", clip, "--neighbours", str(NEIGHBOURS), "--out", str(out / "bags.json"),
    )  # fmt: skip
    changes = []
    for seed in range(options.seeds):
        name = f"grpo-{seed}"
        seconds[name] = launch(
            out / f"{name}.log", *recipe, "recipes/grpo.py", "--config", f"{CONFIGS}/photos_grpo.yaml",
            "--output_dir", str(out / name), *data, base, f"data.bags={out / 'bags.json'}",
            f"model.adapter={out / 'sft' / 'adapter'}", f"mix.self_retrieval.params.clip={clip}",
            f"mix.hallucination.params.nli={models / 'nli'}", f"mix.coverage.params.encoder={models / 'nli'}",
            f"mix.grammar.params.model={models / 'grammar'}", f"evaluation.retriever=local-dir:{models / 'evaluation'}",
            f"evaluation.nli={options.nli.resolve()}", f"train.steps={steps(config.train.steps)}", f"train.seed={seed}",
        )  # fmt: skip
        run_changes = read_summary(out / name)["changes"]
        changes.append(next(change for change in run_changes if change["split"] == "test"))
    print(f"\n{changes[0]['n']} held-out photos, step {changes[0]['from']} against step {changes[0]['to']}\n")
    print(table([change["metrics"] for change in changes]))
    report = out / "grpo-0" / "report.html"
    print(f"\n{report}: {report.stat().st_size / 1e6:.2f} MB")
    write_json(
        options.json,
        intervals=INTERVALS,
        data=lines,
        tower="ImageNet" if options.tower else "random",
        nli_auc=trained["nli_auc"],
        grammar_accuracy=trained["grammar_accuracy"],
        human_recall_at_1_among_test={name: round(value, 4) for name, value in human_recalls.items()},
        seconds=seconds,
        report_bytes=report.stat().st_size,
        test=changes,
    )


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: one line for each metric, one column for each seed.

    A seed's cell holds the difference and its paired interval.
    """
    seeds = " | ".join(f"seed {seed}: difference, 95 % interval" for seed in range(len(runs)))
    lines = [f"| metric | before | after, mean of seeds | {seeds} |", "| --- " * (len(runs) + 3) + "|"]
    for name in reading_order(set(runs[0])):
        info, metric_runs = metric_info(name), [run[name] for run in runs]
        cells = []
        for row in metric_runs:
            low, high = (info.format_change(row["difference"][end]) for end in ("low", "high"))
            cells.append(f"{info.format_change(row['difference']['mean'])} [{low}, {high}]")
        after = float(np.mean([row["after"] for row in metric_runs]))
        lines.append(
            f"| {info.label} | {info.format(metric_runs[0]['before'])} | {info.format(after)} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
