"""A run folder as training leaves it, made from the lab's scenes with a simulated captioner."""

import json
import math
import random

import numpy as np

from rlcap.eval.captions_file import metric_values, write_rows
from rlcap.eval.metrics.text import text_metrics
from rlcap.eval.summary import summarise
from rlcap.lab.truth_metrics import false_sentences, truth_metrics
from rlcap.lab.world.language import describe_background, describe_thing
from rlcap.lab.world.scene import Scene, scene_of
from rlcap.lab.world.vocabulary import COLOURS

HOSTILE = '<script>document.title="owned"</script><img src="http://127.0.0.1:9/x.png" onerror="document.title=\'owned\'"> a ball.'


def caption(sample, skill, seed):
    """Return a caption that mentions more things, and with fewer wrong colours, the larger `skill` is."""
    rng, scene = random.Random(f"{sample.id}/{seed}"), Scene.from_json(sample.meta["scene"])
    told = [t for t in scene.things if rng.random() < 0.35 + 0.6 * skill] or list(scene.things[:1])
    sentences = []
    for thing in told:
        text = describe_thing(thing, ("colour", "place", *(("size",) if skill > 0.5 else ())), rng)
        if rng.random() < 0.45 * (1 - skill):
            text = text.replace(thing.colour, rng.choice([c for c in COLOURS if c != thing.colour]))
        sentences.append(text)
    return " ".join([*sentences, *([describe_background(scene.background)] if skill > 0.3 else [])])


def write_run(folder, samples, steps=(0, 40, 80, 120), hostile=None):
    """Write all that the report reads; return the folder. `hostile` replaces the first sample's captions."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = {"test": samples[: len(samples) * 2 // 3], "prior_breaking": samples[len(samples) * 2 // 3 :]}
    paths, last = {s.id: s.image for s in samples}, max(steps)
    panel = []
    for step in steps:
        skill = step / last
        for split, part in halves.items():
            texts = [caption(s, skill, i) for i, s in enumerate(part)]
            if hostile and split == "test":
                texts[0] = hostile
            metrics = truth_metrics(texts, part) | text_metrics(texts)
            rng = np.random.default_rng([step, len(part)])
            for name, chance in (("bag3", 0.5), ("bag5", 0.38), ("bag7", 0.3), ("rd100", 0.45)):
                metrics[f"{name}_recall_at_1"] = (rng.random(len(part)) < chance + 0.28 * skill).astype(float)
            rows = [
                {"sample_id": s.id, "image": s.image, "caption": t, "split": split, "metrics": metric_values(metrics, i),
                 "false": false_sentences(t, scene_of(s))}
                for i, (s, t) in enumerate(zip(part, texts, strict=True))
            ]  # fmt: skip
            write_rows(folder, step, rows)
            if split == "test":
                for s, t in list(zip(part, texts, strict=True))[:5]:
                    scores = {
                        "self_retrieval": -1.9 + 1.2 * skill,
                        "hallucination": 0.2 + 0.4 * skill,
                        "critique": None,
                    }
                    notes = {"critique": f"{t} <b>is it so?</b>"} if step else {}
                    bag = [paths[id] for id in s.distractors["hard"][:4]]
                    panel.append({"step": step, "sample_id": s.id, "image": s.image, "caption": t, "scores": scores,
                                  "notes": notes, "bag": bag})  # fmt: skip
    (folder / "panel.jsonl").write_text("".join(json.dumps(row) + "\n" for row in panel))
    write_metrics(folder, last)
    write_rollouts(folder, samples[:4], last, hostile)
    (folder / "config.yaml").write_text(
        "model: lab\nmix:\n  self_retrieval: {weight: 1.0}\n  # <script>alert(1)</script>\n"
    )
    run = {"versions": {"trl": "1.16.0", "torch": "2.14.0"}, "git": "0123abc", "seed": 0, "trainable_parameters": 20_480,
           "data": {"fingerprint": "5f3c", "train": 2000, "test": len(halves["test"])}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))
    summarise(folder)
    return folder


def write_rollouts(folder, samples, last, hostile=None):
    """Write what two steps sampled: three captions an image with spans of two terms, whose labels are as hostile as the caption."""
    rows = []
    for step in (1, last):
        for s in samples:
            for i in range(3):
                text = hostile if hostile and not i else caption(s, step / last, i)
                half = len(text) // 2
                spans = {
                    "hallucination": [
                        [0, half, -0.25 * (i + 1), f"wrong: {hostile or text}"],
                        [half, len(text), 0.1, "fine"],
                    ],
                    "listener": [[j, j + 1, (j % 7 - 3) / 10, f"{j}"] for j in range(min(len(text), 40))],
                }
                rows.append({"step": step, "stage": "bag3", "sample_id": s.id, "caption": text, "advantage": i - 1.0,
                             "scores": {"hallucination": 0.0}, "abstained": {}, "notes": {}, "spans": spans})  # fmt: skip
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_metrics(folder, last):
    rng = random.Random(0)
    with open(folder / "metrics.jsonl", "w") as file:
        for step in range(1, last + 1):
            t = step / last
            row = {
                "reward/self_retrieval/mean": -1.9
                + 1.1 * (1 - math.exp(-3 * t))
                + rng.gauss(0, 0.12)
                - 0.25 * (t > 0.5),
                "reward/self_retrieval/std_within_group": 0.5,
                "reward/self_retrieval/abstain_rate": 0.0,
                "reward/hallucination/mean": 0.2 + 0.35 * t + rng.gauss(0, 0.06),
                "reward/hallucination/std_within_group": 0.3,
                "reward/hallucination/abstain_rate": 0.0,
                "reward/critique/mean": 0.45 + 0.2 * t + rng.gauss(0, 0.03),
                "reward/critique/std_within_group": 0.15,
                "reward/critique/abstain_rate": max(0.0, 0.08 + rng.gauss(0, 0.02)),
                "reward_total": 0.0,
                "completions/mean_words": 14 + 16 * t + rng.gauss(0, 1.0),
                "stage/bag_size": 3 if t <= 0.25 else 5 if t <= 0.5 else 7,
                "zero_variance_groups": max(0.0, 0.1 - 0.05 * t + rng.gauss(0, 0.02)),
                "kl": 0.08 * t + abs(rng.gauss(0, 0.004)),
                "grad_norm": 0.8 + rng.gauss(0, 0.15),
            }
            file.write(json.dumps({"step": step, "seconds": 1.7 * step, "metrics": row}) + "\n")
