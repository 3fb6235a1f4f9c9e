"""How good are the lab's models, and what can't they see?

    python benchmarks/lab_assets.py --json benchmarks/results/lab_assets.json

It measures, on scenes of the test split: the captioner with and without its MLE adapter against the truth, both
retrievers on texts that say more and more, and the NLI model on held-out pairs.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
from lab_runs import write_json

from rlcap.config.schema import ModelConfig
from rlcap.eval.captioning import caption_samples
from rlcap.eval.metrics.retrieval import retrieval_metrics, split_bags
from rlcap.io.addresses import resolve_address
from rlcap.lab.models.nli import LABELS, sample_pair
from rlcap.lab.source import load_split
from rlcap.lab.truth_metrics import truth_metrics
from rlcap.lab.world.language import INSTRUCTION, describe_scene, describe_thing
from rlcap.lab.world.scene import Scene
from rlcap.policy.loading import load_policy
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.nli import NliScorer

TRUTH = ("fact_recall", "hallucination_rate", "hallucinated", "singles_out", "grammatical")


def captioners(samples: list) -> dict:
    """Return the truth metrics of greedy captions, with the adapter and without."""
    results = {}
    for name, adapter in (("base", None), ("MLE adapter", "lab:adapter")):
        policy = load_policy(ModelConfig(base="lab:captioner", adapter=adapter))
        captions = caption_samples(policy.model, policy.processor, samples, instruction=INSTRUCTION, max_new_tokens=96)
        metrics = truth_metrics(captions, samples)
        results[name] = {metric: float(np.nanmean(metrics[metric])) for metric in TRUTH}
        results[name]["mean_words"] = float(np.mean([len(caption.split()) for caption in captions]))
    return results


def retrievers(samples: list) -> dict:
    """Return R@1 of texts for each retriever: in bags of 5 near-duplicates, and among 99 random others."""
    rng = random.Random(0)
    scenes = [Scene.from_json(sample.meta["scene"]) for sample in samples]

    def describe(*attributes: str) -> list[str]:
        return [" ".join(describe_thing(thing, attributes, rng) for thing in scene.things) for scene in scenes]

    texts = {
        "fused paragraph": [sample.paragraph for sample in samples],
        "kind and colour": describe("colour"),
        "kind, colour, place": describe("colour", "place"),
        "kind, colour, size, fill": describe("colour", "size", "fill"),
        "everything": [describe_scene(scene, rng) for scene in scenes],
    }
    results: dict = {}
    for name in ("retriever", "judge-retriever"):
        scorer = ClipScorer.load(resolve_address(f"local-dir:lab:{name}"))
        images, bags = scorer.image_embeddings([sample.image for sample in samples]).numpy(), split_bags(samples)
        for text, lines in texts.items():
            metrics = retrieval_metrics(scorer.text_embeddings(lines).vectors.numpy(), images, bags)
            names = ("bag5_recall_at_1", "rd100_recall_at_1")
            results.setdefault(name, {})[text] = {m: float(metrics[m].mean()) for m in names}
    return results


def nli(count: int = 1000) -> dict:
    """Return the accuracy over all pairs and the recall of each label, on scenes of the test split."""
    rng = random.Random("nli/quality")
    pairs = [sample_pair(rng, "test") for _ in range(count)]
    scorer = NliScorer.load(resolve_address("lab:nli"))
    predicted = scorer.probabilities([p for p, _, _ in pairs], [h for _, h, _ in pairs]).argmax(1).numpy()
    labels = np.array([label for _, _, label in pairs])
    is_right = predicted == labels
    return {"accuracy": float(is_right.mean())} | {
        f"recall of {name}": float(is_right[labels == i].mean()) for i, name in enumerate(LABELS)
    }


def main() -> None:
    """Measure all models, print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    samples = load_split("test", 308, 0)
    results = {"captioner": captioners(samples), "retrieval": retrievers(samples), "nli": nli()}
    print("| captioner | " + " | ".join((*TRUTH, "mean_words")) + " |\n" + "|---" * 7 + "|")
    for name, row in results["captioner"].items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")
    print(
        "\n| text | reward's: bag of 5 | reward's: of 100 | evaluation's: bag of 5 | evaluation's: of 100 |\n"
        + "|---" * 5
        + "|"
    )
    for text in results["retrieval"]["retriever"]:
        cells = [v for name in ("retriever", "judge-retriever") for v in results["retrieval"][name][text].values()]
        print(f"| {text} | " + " | ".join(f"{value:.2f}" for value in cells) + " |")
    print("\nNLI: " + ", ".join(f"{name} {value:.2f}" for name, value in results["nli"].items()))
    write_json(options.json, results=results)


if __name__ == "__main__":
    main()
