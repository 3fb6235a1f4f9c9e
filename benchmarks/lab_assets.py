"""How good are the lab's models, and what can't they see?

    python benchmarks/lab_assets.py --json benchmarks/results/lab_assets.json

It measures, on scenes of the test split: both bases of the lab with and without their MLE adapters against the truth,
the base `web` as a verifier, both retrievers on texts that say more and more, and the NLI model on held-out pairs.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from lab_runs import write_json
from quality_statistics import auc

from rlcap.config.schema import ModelConfig
from rlcap.eval.metrics.retrieval import retrieval_metrics, split_bags
from rlcap.io.addresses import resolve_address
from rlcap.io.images import open_image
from rlcap.lab.models.nli import LABELS, sample_pair
from rlcap.lab.models.quality import caption_quality, greedy_captions, verifier_accuracy
from rlcap.lab.models.web_questions import ask
from rlcap.lab.source import load_split
from rlcap.lab.world.language import INSTRUCTION, describe_scene, describe_thing
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.truth import check_caption
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.loading import load_policy
from rlcap.scorers.clip import ClipScorer
from rlcap.scorers.nli import NliScorer
from rlcap.scorers.text.sentences import split_sentences
from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer

CAPTIONERS = {
    "base": ("lab:captioner", None),
    "MLE adapter": ("lab:captioner", "lab:adapter"),
    "web base": ("lab:web-captioner", None),
    "web MLE adapter": ("lab:web-captioner", "lab:web-adapter"),
}
"""Name → addresses of base and adapter."""


def captioners(samples: list) -> dict:
    """Return the quality of greedy captions by truth, and R@1 in bags of 5 by the retriever of the evaluation."""
    scorer = ClipScorer.load(resolve_address("local-dir:lab:judge-retriever"))
    images, bags = scorer.image_embeddings([sample.image for sample in samples]).numpy(), split_bags(samples)
    results = {}
    for name, (base, adapter) in CAPTIONERS.items():
        captions = greedy_captions(base, adapter, samples)
        retrieval = retrieval_metrics(scorer.text_embeddings(captions).vectors.numpy(), images, bags)
        results[name] = caption_quality(captions, samples)
        results[name]["bag5_recall_at_1"] = float(retrieval["bag5_recall_at_1"].mean())
    return results


def verifier(samples: list, images: int = 100, captions_per_image: int = 4) -> dict:
    """Return how well the base `web` answers yes/no questions.

    Args:
        samples: Samples of the test split.
        images: Number of images for which the adapter on the base samples captions.
        captions_per_image: Sampled captions per image.

    Returns:
        The accuracy for questions about each type of claim, half of them about true sentences, and the probability
        (area under the ROC curve) that a true sentence of a sampled caption gets a higher probability of yes than a
        false one.
    """
    scorer = YesProbabilityScorer.load("lab:web-captioner")
    sentences: dict[bool, list] = {True: [], False: []}
    for sample, texts in zip(samples, sample_captions(samples[:images], captions_per_image), strict=False):
        image, scene = open_image(sample.image), scene_of(sample)
        for sentence in dict.fromkeys(sentence for text in texts for sentence in split_sentences(text)):
            verdict = check_caption(sentence, scene)
            if verdict.claims:
                sentences[not verdict.wrong].append((image, ask(sentence)))
    low, high = (np.array(scorer.probabilities(*zip(*sentences[is_true], strict=True))) for is_true in (False, True))
    return {
        "accuracy": verifier_accuracy(scorer, samples),
        "sampled_sentences": {"auc": auc(low, high), "true": len(high), "false": len(low)},
    }


def sample_captions(samples: list, captions_per_image: int) -> list[list[str]]:
    """Sample captions of each image from the MLE adapter on the base `web`, at temperature 1."""
    policy = load_policy(ModelConfig(base="lab:web-captioner", adapter="lab:web-adapter"))
    captioner = make_captioner(policy.model, policy.processor)
    torch.manual_seed(0)
    with torch.no_grad():
        prompts = captioner.prepare([open_image(sample.image) for sample in samples], INSTRUCTION)
        texts = captioner.decode(captioner.generate(prompts, captions_per_image, max_new_tokens=72).ids)
    return [texts[i : i + captions_per_image] for i in range(0, len(texts), captions_per_image)]


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
    samples = load_split("test", 700, 0)
    results = {
        "captioner": captioners(samples), "verifier": verifier(samples), "retrieval": retrievers(samples), "nli": nli(),
    }  # fmt: skip
    columns = list(results["captioner"]["base"])
    print("| captioner | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
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
    shares = results["verifier"]["accuracy"] | {
        "AUC of sampled sentences": results["verifier"]["sampled_sentences"]["auc"]
    }
    print("\nverifier: " + ", ".join(f"{name} {value:.2f}" for name, value in shares.items()))
    print("\nNLI: " + ", ".join(f"{name} {value:.2f}" for name, value in results["nli"].items()))
    write_json(options.json, results=results)


if __name__ == "__main__":
    main()
