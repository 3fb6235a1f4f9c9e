"""How good are the lab's models, and how blind?

    python benchmarks/lab_assets.py --json benchmarks/results/lab_assets.json

The captioner with and without its MLE adapter by truth; both retrievers on texts that say more and more; the NLI model on
held-out pairs. All on scenes of the test split.
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
    """Truth metrics of greedy captions, with the adapter and without."""
    found = {}
    for name, adapter in (("base", None), ("MLE adapter", "lab:adapter")):
        policy = load_policy(ModelConfig(base="lab:captioner", adapter=adapter))
        captions = caption_samples(policy.model, policy.processor, samples, instruction=INSTRUCTION, max_new_tokens=96)
        metrics = truth_metrics(captions, samples)
        found[name] = {metric: float(np.nanmean(metrics[metric])) for metric in TRUTH}
        found[name]["mean_words"] = float(np.mean([len(caption.split()) for caption in captions]))
    return found


def retrievers(samples: list) -> dict:
    """R@1 of texts by each retriever: in bags of 5 near-duplicates, and among 99 random others."""
    rng = random.Random(0)
    scenes = [Scene.from_json(sample.meta["scene"]) for sample in samples]

    def tell(*attributes: str) -> list[str]:
        return [" ".join(describe_thing(thing, attributes, rng) for thing in scene.things) for scene in scenes]

    texts = {
        "fused paragraph": [sample.paragraph for sample in samples],
        "kind and colour": tell("colour"),
        "kind, colour, place": tell("colour", "place"),
        "kind, colour, size, fill": tell("colour", "size", "fill"),
        "everything": [describe_scene(scene, rng) for scene in scenes],
    }
    found: dict = {}
    for name in ("retriever", "judge-retriever"):
        scorer = ClipScorer.load(resolve_address(f"local-dir:lab:{name}"))
        images, bags = scorer.image_embeddings([sample.image for sample in samples]).numpy(), split_bags(samples)
        for text, lines in texts.items():
            metrics = retrieval_metrics(scorer.text_embeddings(lines).vectors.numpy(), images, bags)
            wanted = ("bag5_recall_at_1", "rd100_recall_at_1")
            found.setdefault(name, {})[text] = {m: float(metrics[m].mean()) for m in wanted}
    return found


def nli(count: int = 1000) -> dict:
    """Accuracy over all pairs and per label, on scenes of the test split."""
    rng = random.Random("nli/quality")
    pairs = [sample_pair(rng, "test") for _ in range(count)]
    scorer = NliScorer.load(resolve_address("lab:nli"))
    guess = scorer.probabilities([p for p, _, _ in pairs], [h for _, h, _ in pairs]).argmax(1).numpy()
    wanted = np.array([label for _, _, label in pairs])
    right = guess == wanted
    return {"accuracy": float(right.mean())} | {
        f"recall of {name}": float(right[wanted == i].mean()) for i, name in enumerate(LABELS)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    asked = parser.parse_args()
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
    write_json(asked.json, results=results)


if __name__ == "__main__":
    main()
