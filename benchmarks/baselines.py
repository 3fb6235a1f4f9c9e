"""Does reinforcement learning pay? The default mix against what is cheaper, on the lab's test images.

    python benchmarks/seeds.py                                    the main job with five seeds, whose runs are read here
    python benchmarks/baselines.py --json benchmarks/results/baselines.json

    base             the captioner without an adapter
    sft              the adapter that reinforcement learning starts from
    best_of_8        of eight sampled captions of `sft`, the best by the default mix, which reads the test images' references
    contrastive      `sft`, decoded greedily by `rlcap.policy.contrastive`, with four images of the bag
    pairs_dpo        DPO on the best and the worst of eight captions of each training image, by the default mix
    refine_sft       SFT on captions that a reviser rewrote and self-retrieval, hallucination and grammar accepted
    refine_dpo       DPO on the same captions and their originals

The reviser is an oracle that reads the lab's truth; no other part is. The difference is that of the trained captioner's
last step minus the baseline, with a 95 % interval over clusters of images and seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lab_runs import INTERVALS, ROOT, write_json

from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.eval.captioning import caption_samples
from rlcap.eval.captions_file import evaluated_steps, read_tables
from rlcap.eval.metric_catalog import metric_info
from rlcap.eval.statistics import difference_across_seeds
from rlcap.types import RewardBatch, Sample

CONFIG = ROOT / "recipes" / "configs" / "lab.yaml"
METRICS = (
    "bag5_recall_at_1", "hallucination_rate", "hallucinated", "fact_recall", "wrong_unseen", "mean_words",
    "singles_out", "repetition", "grammatical",
)  # fmt: skip
SPLIT = "test"
SAMPLES = 8
BAG_SIZE = 5
WEIGHTS = (0.5, 1.0, 2.0)
"""Weights of contrastive decoding."""


class Bench:
    """The lab's splits, the held-out metrics and the default mix."""

    def __init__(self, config: Path, out: Path, overrides: Sequence[str]) -> None:
        from rlcap.data.source import instruction_for, load_splits
        from rlcap.reward.context import reward_context
        from rlcap.reward.mix import RewardMix
        from rlcap.train.evaluation import build_evaluator
        from rlcap.train.run_folder import RunFolder

        self.out, self.config = out, load_config(GRPOConfig, config, list(overrides))
        self.splits, _ = load_splits(self.config.data)
        self.instruction = instruction_for(self.config.data)
        self.length = self.config.generation.max_new_tokens
        self.evaluator = build_evaluator(
            self.config, self.splits, self.instruction, RunFolder(out / "evaluation"), "cpu"
        )
        self.images = {sample.id: sample.image for rows in self.splits.values() for sample in rows}
        self.mix = RewardMix.from_config(
            mix_entries(self.config.mix),
            context=reward_context(
                self.images.values(), base=self.config.model.base, instruction=self.instruction, device="cpu"
            ),
        )

    def policy(self, adapter: str | None) -> Any:
        """Load the captioner with an adapter, or without one."""
        from rlcap.policy.loading import load_policy

        model = self.config.model.model_copy(
            update={"adapter": adapter} if adapter else {"adapter": None, "trainable": "full"}
        )
        policy = load_policy(model)
        policy.model.requires_grad_(False)
        return policy

    def bag(self, sample: Sample) -> tuple[str, ...]:
        """Return the image paths of the sample's bag, without its own."""
        known = [self.images[other] for other in sample.distractors.get("hard", ()) if other in self.images]
        return tuple(path for path in known if path != sample.image)[: BAG_SIZE - 1]

    def greedy(self, adapter: str | None, samples: Sequence[Sample]) -> list[str]:
        """Caption images greedily."""
        policy = self.policy(adapter)
        return caption_samples(
            policy.model,
            policy.processor,
            samples,
            instruction=self.instruction,
            max_new_tokens=self.length,
            progress=True,
        )

    def sample_and_score(self, samples: Sequence[Sample], seed: int) -> tuple[list[list[str]], torch.Tensor]:
        """Return eight captions of each image by the first adapter, and the (images, 8) totals of the mix."""
        from rlcap.algo.advantages import combine
        from rlcap.io.images import open_image

        captioner = self.policy(self.config.model.adapter).captioner
        generator = torch.Generator().manual_seed(seed)
        groups, totals = [], []
        for start in range(0, len(samples), 16):
            part = samples[start : start + 16]
            with torch.no_grad():
                prompts = captioner.prepare([open_image(sample.image) for sample in part], self.instruction)
            uniforms = torch.rand(len(part) * SAMPLES, self.length, dtype=torch.double, generator=generator)
            made = captioner.generate(prompts, SAMPLES, max_new_tokens=self.length, sampling_uniforms=uniforms)
            captions = captioner.decode(made.ids)
            rows = [sample for sample in part for _ in range(SAMPLES)]
            values = self.mix.score(RewardBatch(captions, rows, [self.bag(sample) for sample in rows])).values
            total = combine(
                values,
                self.mix.weights,
                SAMPLES,
                normalize=self.mix.normalize,
                aggregate=self.config.train.aggregate,
                reward_ranges=self.mix.reward_ranges,
            ).advantages
            groups += [captions[i : i + SAMPLES] for i in range(0, len(captions), SAMPLES)]
            totals.append(total.view(-1, SAMPLES))
        return groups, torch.cat(totals)

    def contrastive(self, samples: Sequence[Sample], weight: float) -> list[str]:
        """Caption images by contrastive decoding against their bags."""
        from rlcap.io.images import open_image
        from rlcap.policy.contrastive import generate_contrastive

        captioner = self.policy(self.config.model.adapter).captioner
        captions = []
        for start in range(0, len(samples), 16):
            part = samples[start : start + 16]
            paths = [path for sample in part for path in (sample.image, *self.bag(sample))]
            with torch.no_grad():
                prompts = captioner.prepare([open_image(path) for path in paths], self.instruction)
            rows = [prompts[i : i + BAG_SIZE] for i in range(0, len(prompts), BAG_SIZE)]
            made = generate_contrastive(captioner, rows, max_new_tokens=self.length, weight=weight)
            captions += captioner.decode(made.ids)
        return captions


def run_recipe(recipe: str, folder: Path, *arguments: str) -> Path:
    """Run a recipe, unless its folder holds a finished run, and return the folder."""
    done = folder / "done"
    if not done.exists():
        print(f"running {recipe} → {folder}", file=sys.stderr, flush=True)
        line = [sys.executable, "-m", "accelerate.commands.launch", f"recipes/{recipe}.py"]
        subprocess.run(
            [*line, f"--output_dir={folder.resolve()}", *arguments],
            cwd=ROOT,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        done.touch()
    return folder


def pairs_of_samples(bench: Bench, path: Path, seed: int) -> Path:
    """Write the best and the worst of eight captions of each training image as preference pairs."""
    if not path.exists():
        samples = bench.splits["train"]
        groups, totals = bench.sample_and_score(samples, seed)
        rows = []
        for sample, captions, total in zip(samples, groups, totals, strict=True):
            said = [k for k, caption in enumerate(captions) if caption]  # DPO learns nothing from an empty caption
            best, worst = max(said, key=total.tolist().__getitem__), min(said, key=total.tolist().__getitem__)
            if captions[best] != captions[worst]:
                pair = {"chosen": captions[best], "rejected": captions[worst]}
                rows.append({"sample_id": sample.id, "image": sample.image, "prompt": bench.instruction, **pair})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def baselines(bench: Bench, seeds: Sequence[int]) -> dict[str, list[Callable[[], list[str]]]]:
    """Return baseline → for each of its seeds a function that returns the captions of the test images."""
    test, out = bench.splits[SPLIT], bench.out
    start = bench.config.model.adapter
    small = "data.validation=0", "data.test=14", "data.options.prior_breaking=0"

    def best(seed: int) -> list[str]:
        groups, totals = bench.sample_and_score(test, seed)
        return [captions[int(total.argmax())] for captions, total in zip(groups, totals, strict=True)]

    def refined() -> Path:
        return run_recipe("refine", out / "refined", f"data.train={len(bench.splits['train'])}")

    def after_dpo(name: str, pairs: Callable[[], Path], seed: int) -> list[str]:
        folder = run_recipe("dpo", out / f"{name}-{seed}", f"pairs={pairs()}", f"train.seed={seed}", *small)
        return bench.greedy(str(folder / "adapter"), test)

    def after_sft(seed: int) -> list[str]:
        rows = refined() / "sft.jsonl"
        folder = run_recipe(
            "sft",
            out / f"refine_sft-{seed}",
            f"model.adapter={start}",
            f"data.source={rows}",
            "data.options={}",
            f"data.instruction={bench.instruction}",
            f"data.train={sum(1 for _ in rows.open())}",
            "data.validation=0",
            "train.steps=40",
            "train.batch_size=16",
            "train.micro_batch=16",
            "train.learning_rate=3.0e-4",
            f"train.seed={seed}",
        )
        return bench.greedy(str(folder / "adapter"), test)

    found: dict[str, list[Callable[[], list[str]]]] = {
        "base": [lambda: bench.greedy(None, test)],
        "sft": [lambda: bench.greedy(start, test)],
        "best_of_8": [lambda seed=seed: best(seed) for seed in seeds],
    }
    found |= {f"contrastive_{w:g}": [lambda w=w: bench.contrastive(test, w)] for w in WEIGHTS}
    found["pairs_dpo"] = [
        lambda seed=seed: after_dpo(
            "pairs_dpo", lambda: pairs_of_samples(bench, out / f"pairs-{seed}.jsonl", seed), seed
        )
        for seed in seeds
    ]
    found["refine_sft"] = [lambda seed=seed: after_sft(seed) for seed in seeds]
    found["refine_dpo"] = [
        lambda seed=seed: after_dpo("refine_dpo", lambda: refined() / "pairs.jsonl", seed) for seed in seeds
    ]
    return found


def measure(
    bench: Bench, made: Mapping[str, list[Callable[[], list[str]]]], trained: Mapping[int, Path]
) -> dict[str, dict[str, Any]]:
    """Return baseline → metric → value of each seed, and what the trained captioner gains over it."""
    tables = {seed: read_tables(folder, evaluated_steps(folder)[-1])[SPLIT] for seed, folder in trained.items()}
    clusters = bench.evaluator.clusters(SPLIT)
    ids = [sample.id for sample in bench.splits[SPLIT]]
    if any(table.ids != ids for table in tables.values()):
        raise SystemExit(f"the runs were evaluated on other test images than {bench.config.name or CONFIG.name} names")
    found: dict[str, dict[str, Any]] = {}
    for name, makers in made.items():
        kept = bench.out / f"{name}.json"
        if not kept.exists():
            print(f"measuring {name}", file=sys.stderr, flush=True)
            kept.write_text(json.dumps([make() for make in makers]))
        scored = [bench.evaluator.score(SPLIT, captions) for captions in json.loads(kept.read_text())]
        found[name] = {}
        for metric in METRICS:
            before = [scores[metric] for scores in scores_of(scored, len(tables))]
            gain = difference_across_seeds(before, [table.metrics[metric] for table in tables.values()], clusters)
            found[name][metric] = {
                "values": [float(np.nanmean(scores[metric])) for scores in scored],
                "trained_minus_baseline": gain._asdict(),
            }
    found["trained"] = {
        metric: {"values": [float(np.nanmean(table.metrics[metric])) for table in tables.values()]}
        for metric in METRICS
    }
    return found


def scores_of(scored: Sequence[Any], count: int) -> list[Any]:
    """Return one entry for each trained run: the baseline's seeds in turn, since each pair needs one."""
    return [scored[i % len(scored)] for i in range(count)]


def main() -> None:
    """Make the captions of all baselines, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of what is drawn (default: 0 1 2)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/seeds"), help="folder of the trained runs seed-N (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/baselines"), help="where captions and runs go; they are kept"
    )
    parser.add_argument("--only", nargs="+", help="baselines to measure (default: all)")
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="configuration of the mix and the data (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("overrides", nargs="*", help="dotted overrides of the configuration")
    options = parser.parse_args()
    trained = {
        int(folder.name.removeprefix("seed-")): folder
        for folder in sorted(options.runs.glob("seed-*"))
        if (folder / "summary.json").exists()
    }
    if not trained:
        raise SystemExit(f"{options.runs} has no finished run seed-N: run benchmarks/seeds.py first")
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.config, options.out, options.overrides)
    made = baselines(bench, options.seeds)
    if options.only:
        made = {name: made[name] for name in options.only}
    found = measure(bench, made, trained)
    print("| captioner | " + " | ".join(metric_info(metric).label for metric in METRICS) + " |")
    print("|---" * (len(METRICS) + 1) + "|")
    for name, metrics in found.items():
        cells = []
        for metric in METRICS:
            values, gain = metrics[metric]["values"], metrics[metric].get("trained_minus_baseline")
            rest = " ({mean:+.3f} [{low:+.3f}, {high:+.3f}])".format(**gain) if gain else ""
            cells.append(f"{sum(values) / len(values):.3f}{rest}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("in parentheses: trained captioner minus baseline")
    write_json(
        options.json,
        intervals=INTERVALS,
        seeds=options.seeds,
        trained_seeds=list(trained),
        config=options.config.name,
        split=SPLIT,
        results=found,
    )


if __name__ == "__main__":
    main()
