"""How well does each reward agree with people, and with truth?

    python benchmarks/lab_judges.py --out DIR
    python benchmarks/real_photos.py --coco DIR --nli DIR --tower FILE --pope DIR      # makes runs/real-photos/models/nli
    python benchmarks/reward_quality.py --foil DIR --flickr8k DIR --pope DIR --coco DIR --nli DIR --taught runs/real-photos/models/nli \\
        --lab_judges DIR --json FILE

A line a reward, a column a question, each with a 95 % bootstrap interval:

    foil       share of nocaps-FOIL triples whose human caption scores above the same with one wrong object (ties half)
    <kind>     the same on Flickr8k's captions, one word made wrong (`caption_foils`): object, attribute, count, place, relation,
               action; the caption is each image's first, the others are its references
    tau_c      Kendall's τ-c with the three experts' ratings of Flickr8k-Expert, against all five references, as published
    flawless   AUC there: captions that all three experts found without error, against those that all found related and
               some found wrong (sum of ratings 6 to 11)
    machine    AUC of captions by five published vision-language models (POPE's files, their instruction of a short caption):
               those that mention one of COCO's 80 kinds of things that none of the five annotators mentions, against the
               others. The references know the label, so `chair` is left out
    lab_auc    AUC of the lab's sampled captions: none of whose claims is false, against the others
    lab_group  of the pairs of one image's eight captions, the share that it orders as truth does: what RL sees

The lab's captions are sampled from its MLE captioner at temperature 1, eight an image, as training begins. Truth is `rlcap.lab.truth.
LabTruth.score`: harmonic mean of precision and recall of facts, times the grammatical share; pairs of equal truth don't count.
The mix stands in the table by its advantage (the trainer's own arithmetic), which is centred by image: its lab_auc says little.
Below it, how much more it agrees within groups than the best of its components, image by image. Its weights were chosen in view
of the images of seed 0; those of seed 1 are the first that were looked at after. What needs a folder that isn't given is left
out. A folder holds nocaps_foil.json, Flickr8k.token.txt with ExpertAnnotations.txt, POPE's instruction2_*.json, COCO's
annotations/captions_val2017.json, an NLI cross-encoder, the same taught. The whole takes an hour on one core: --only measures one
part and adds its columns to those that the file of --json has.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from caption_foils import SETS, foils
from quality_statistics import auc, bootstrap, clustered, group_agreement, group_gain, kendall_tau_c, wins
from tqdm import trange

from rlcap.cli.arguments import folder, positive
from rlcap.eval.statistics import Interval, bootstrap_mean
from rlcap.types import RewardBatch, Sample

# isort: split
# A folder `runs` in the root would else change where ruff wants this.
from lab_runs import ROOT, write_json

NLI, TAUGHT, ENCODER, WORDS = "<nli>", "<taught>", "<encoder>", "<words>"
ANSWERER, CHOOSER = "<answerer>", "<chooser>"
REFERENCES, PAIRS = "<references>", "<pairs>"
"""Placeholders: the NLI models of --nli and --taught, the encoder of the former, the same two thirds of the way up, the two models of --lab_judges; every reference of the data set (for
document frequencies), and other images with a caption each."""
HALLUCINATION = "rlcap.rewards.hallucination:Hallucination"
TEXT: dict[str, dict[str, Any]] = {
    "hallucination, mocha": {"reward": HALLUCINATION, "params": {"nli": NLI}},
    "hallucination, mocha, NLI alone": {"reward": HALLUCINATION, "params": {"nli": NLI, "alpha": 1.0}},
    "hallucination, sentences": {"reward": HALLUCINATION, "params": {"nli": NLI, "form": "sentences"}},
    "hallucination, grounded": {
        "reward": HALLUCINATION,
        "params": {"nli": NLI, "form": "grounded", "alpha": 0.75, "each_reference": False},
    },
    "hallucination, grounded, taught NLI, as in photos_grpo.yaml": {
        "reward": HALLUCINATION,
        "params": {
            "nli": TAUGHT,
            "form": "grounded",
            "alpha": 1.0,
            "each_reference": False,
            "grounding": {"share": 0.6},
        },
    },
    "bert_score": {"reward": "rlcap.rewards.bert_score:BertScore", "params": {"encoder": ENCODER}},
    "coverage": {"reward": "rlcap.rewards.coverage:Coverage", "params": {"encoder": WORDS}},
    "bleu": {"reward": "rlcap.rewards.bleu:Bleu"},
    "rouge": {"reward": "rlcap.rewards.rouge:Rouge"},
    "cider": {"reward": "rlcap.rewards.cider:Cider", "params": {"frequencies": REFERENCES}},
    "chair": {"reward": "rlcap.rewards.chair:Chair"},
    "length": {"reward": "rlcap.rewards.length:Length"},
    "repetition": {"reward": "rlcap.rewards.repetition:Repetition"},
    "style": {"reward": "rlcap.rewards.style:Style"},
}
"""Rewards that need no image, as a mix names them."""
LAB: dict[str, dict[str, Any]] = {
    "hallucination, mocha": {
        "reward": HALLUCINATION,
        "params": {"nli": "lab:nli", "form": "mocha", "alpha": 0.5, "baseline": 0.87},
    },
    "coverage": {"reward": "rlcap.rewards.coverage:Coverage", "params": {"encoder": "lab:nli"}},
    "bleu": {"reward": "rlcap.rewards.bleu:Bleu"},
    "rouge": {"reward": "rlcap.rewards.rouge:Rouge"},
    "cider": {"reward": "rlcap.rewards.cider:Cider", "params": {"frequencies": REFERENCES}},
    "claims": {
        "reward": "rlcap.rewards.claims:Claims",
        "params": {"judge": {"backend": "rlcap.lab.oracles.claims:OracleClaims", "cache": ":memory:"}},
    },
    "caption_qa": {
        "reward": "rlcap.rewards.caption_qa:CaptionQa",
        "params": {
            "judge": {"backend": "rlcap.lab.oracles.question_answerer:OracleQuestionAnswerer", "cache": ":memory:"},
            "questions": "rlcap.lab.world.questions:questions_for_sample",
        },
    },
    "aloha": {
        "reward": "rlcap.rewards.aloha:Aloha",
        "params": {
            "judge": {"backend": "rlcap.lab.oracles.objects:OracleObjects", "cache": ":memory:"},
            "encoder": "lab:nli",
        },
    },
    "image_loop": {
        "reward": "rlcap.rewards.image_loop:ImageLoop",
        "params": {"encoder": "lab:nli", "clip": "local-dir:lab:retriever", "pairs": PAIRS},
    },
    "claim_diff": {
        "reward": "rlcap.rewards.claim_diff:ClaimDiff",
        "params": {"judge": {"backend": "rlcap.lab.oracles.differences:OracleDifferences", "cache": ":memory:"}},
    },
    "rubric": {
        "reward": "rlcap.rewards.rubric:Rubric",
        "params": {
            "judge": {"backend": "rlcap.lab.oracles.rubric:OracleRubric", "cache": ":memory:"},
            "rubric": "rlcap.lab.oracles.rubric:of_sample",
        },
    },
    "clair": {
        "reward": "rlcap.rewards.clair:Clair",
        "params": {"judge": {"backend": "rlcap.lab.oracles.grader:OracleLikelihood", "cache": ":memory:"}},
    },
    "diversity": {"reward": "rlcap.rewards.diversity:Diversity"},
    "clip_score": {"reward": "rlcap.rewards.clip_score:ClipScore", "params": {"clip": "local-dir:lab:retriever"}},
    "ref_clip_score": {
        "reward": "rlcap.rewards.clip_score:RefClipScore",
        "params": {"clip": "local-dir:lab:retriever"},
    },
    "vqa_score": {"reward": "rlcap.rewards.vqa_score:VqaScore", "params": {"model": ANSWERER}},
    "pick_score": {"reward": "rlcap.rewards.pick_score:PickScore", "params": {"model": CHOOSER, "processor": None}},
}
"""Rewards beside those of the lab's default mix (recipes/configs/lab.yaml), with the lab's models."""
ALL_LAB = frozenset(LAB)
MIX = "default mix"
GROUP = 8
CHUNK = 100


def with_paths(entries: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries with their placeholders replaced; without those whose placeholder has no value."""
    found = {}
    for name, entry in entries.items():
        params = {key: values.get(v, v) if isinstance(v, str) else v for key, v in entry.get("params", {}).items()}
        if not {NLI, TAUGHT, ENCODER, WORDS, ANSWERER, CHOOSER} & {v for v in params.values() if isinstance(v, str)}:
            found[name] = {**entry, "params": params}
    return found


class Remembering:
    """An NLI scorer that answers a pair that it has judged before from memory: several forms ask the same."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.known = scorer, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Any:
        import torch

        pairs = list(zip(premises, hypotheses, strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        if new:
            self.known.update(zip(new, self.scorer.probabilities(*zip(*new, strict=True)), strict=True))
        return torch.stack([self.known[pair] for pair in pairs]) if pairs else torch.zeros(0, 3)


def judged(
    entries: Mapping[str, Any], batch: RewardBatch, references: Sequence[Any], models: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Reward → its values (N,), NaN where it abstained. models: placeholder → what is there."""
    from rlcap.config.imports import build, resolve

    values = {REFERENCES: references, **models}
    found = {}
    for name, entry in with_paths(entries, values).items():
        reward = build(resolve(entry["reward"]), entry["params"], {}, entry["reward"])
        scores: list[Any] = []
        for start in trange(0, len(batch.captions), CHUNK, desc=f"  {name}", unit_scale=CHUNK, unit=" captions"):
            part = slice(start, start + CHUNK)
            scores += reward.score(RewardBatch(batch.captions[part], batch.samples[part]))
        found[name] = np.array([np.nan if score.value is None else score.value for score in scores])
    return found


def of_texts(captions: Sequence[str], references: Sequence[Sequence[str]]) -> RewardBatch:
    samples = [Sample(str(i), "", references=tuple(texts)) for i, texts in enumerate(references)]
    return RewardBatch(list(captions), samples)


def pairwise(
    triples: Sequence[tuple[Sequence[str], str, str]], kinds: Sequence[str], models: Mapping[str, Any]
) -> dict[str, dict[str, Interval]]:
    """(references, better, worse) → reward → kind → share of the better ones that score higher."""
    references = [texts for texts, _, _ in triples]
    batch = of_texts([t[1] for t in triples] + [t[2] for t in triples], references * 2)
    found = {}
    for name, values in judged(TEXT, batch, references, models).items():
        won = wins(*np.split(values, 2))
        found[name] = {kind: bootstrap_mean(won[[k == kind for k in kinds]]) for kind in dict.fromkeys(kinds)}
    return found


def on_foil(folder: Path, models: Mapping[str, Any], most: int) -> dict[str, dict[str, Interval]]:
    rows = json.loads((folder / "nocaps_foil.json").read_text())[:most]
    return pairwise([(row["references"], row["baseline"], row["foil"]) for row in rows], ["foil"] * len(rows), models)


def flickr_captions(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """(image → its five captions, caption id → caption)."""
    by_image: dict[str, list[str]] = defaultdict(list)
    by_id = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        id, caption = line.split("\t")
        by_id[id] = caption
        by_image[id.split("#")[0]].append(caption)
    return dict(by_image), by_id


def on_wrong_words(folder: Path, models: Mapping[str, Any], images: int) -> dict[str, dict[str, Interval]]:
    by_image, _ = flickr_captions(folder)
    chosen = np.random.default_rng(0).permutation(sorted(by_image))[:images]
    made = [(by_image[i][1:], by_image[i][0], foil) for i in chosen for foil in foils(by_image[i][0], by_image[i][1:])]
    return pairwise([(texts, caption, foil.text) for texts, caption, foil in made], [f.kind for *_, f in made], models)


def on_experts(folder: Path, models: Mapping[str, Any], most: int | None) -> dict[str, dict[str, Interval]]:
    """Pairs of an image with another image's caption; what the image's own captions would rate is left out, as published."""
    by_image, by_id = flickr_captions(folder)
    rows = [line.split() for line in (folder / "ExpertAnnotations.txt").read_text().splitlines()]
    rows = [row for row in rows if row[0] in by_image and row[1] in by_id and row[1].split("#")[0] != row[0]][:most]
    ratings = np.array([[int(rating) for rating in row[2:]] for row in rows])
    references = [by_image[row[0]] for row in rows]
    values = judged(TEXT, of_texts([by_id[row[1]] for row in rows], references), list(by_image.values()), models)
    groups, total = clustered([row[0] for row in rows]), ratings.sum(1)

    def tau(own: np.ndarray, drawn: np.ndarray) -> float:
        rows = np.concatenate([groups[i] for i in drawn])
        return kendall_tau_c(np.repeat(own[rows], 3), ratings[rows].ravel())

    def flawless(own: np.ndarray, drawn: np.ndarray) -> float:
        rows = np.concatenate([groups[i] for i in drawn])
        rows = rows[ratings[rows].min(1) >= 2]
        return auc(own[rows][total[rows] < 12], own[rows][total[rows] == 12])

    return {
        name: {
            "tau_c": bootstrap(lambda drawn, own=own: tau(own, drawn), len(groups), n=300),
            "flawless": bootstrap(lambda drawn, own=own: flawless(own, drawn), len(groups), n=300),
        }
        for name, own in values.items()
    }


def on_machine_captions(pope: Path, coco: Path, models: Mapping[str, Any], most: int) -> dict[str, dict[str, Interval]]:
    """Captions that models wrote of at most `most` images, the first line of each."""
    from rlcap.scorers.objects.vocabulary import Vocabulary

    references: dict[int, list[str]] = defaultdict(list)
    for row in json.loads((coco / "annotations" / "captions_val2017.json").read_text())["annotations"]:
        references[row["image_id"]].append(row["caption"].strip())
    files = [json.loads(path.read_text()) for path in sorted(pope.glob("instruction2_*.json"))]
    if not files:
        raise SystemExit(f"{pope} has no instruction2_*.json")
    chosen = sorted({row["image_id"] for row in files[0]})[:most]
    told = [(row["image_id"], row["caption"].strip().splitlines()) for rows in files for row in rows]
    rows = [(image, lines[0]) for image, lines in told if lines and image in chosen]
    coco80 = Vocabulary.coco()
    known = {image: {label for text in references[image] for label in coco80.mentions(text)} for image in chosen}
    false = np.array([bool(set(coco80.mentions(caption)) - known[image]) for image, caption in rows])
    batch = of_texts([caption for _, caption in rows], [references[image] for image, _ in rows])
    entries = {name: entry for name, entry in TEXT.items() if name != "chair"}
    groups = clustered([str(image) for image, _ in rows])
    print(
        f"  {len(rows)} captions of {len(chosen)} images, {false.mean():.0%} mention what no annotator does", flush=True
    )

    def separation(own: np.ndarray, drawn: np.ndarray) -> float:
        rows = np.concatenate([groups[i] for i in drawn])
        return auc(own[rows][false[rows]], own[rows][~false[rows]])

    values = judged(entries, batch, list(references.values()), models)
    return {
        name: {"machine": bootstrap(lambda drawn, own=own: separation(own, drawn), len(groups), n=300)}
        for name, own in values.items()
    }


def sampled(samples: Sequence[Sample], config: Any, seed: int = 0) -> list[str]:
    """Eight captions an image by the captioner that training starts from, an image's together."""
    import torch

    from rlcap.data.sampler import sampling_uniforms
    from rlcap.data.source import instruction_for
    from rlcap.io.images import open_image
    from rlcap.policy.loading import load_policy

    captioner, tokens = load_policy(config.model).captioner, config.generation.max_new_tokens
    captions: list[str] = []
    for start in range(0, len(samples), 10):
        part = samples[start : start + 10]
        prompts = captioner.prepare([open_image(sample.image) for sample in part], instruction_for(config.data))
        drawn = torch.from_numpy(
            np.concatenate([sampling_uniforms(seed, 0, sample.id, GROUP, tokens) for sample in part])
        )
        written = captioner.generate(prompts, GROUP, max_new_tokens=tokens, temperature=1.0, sampling_uniforms=drawn)
        captions += captioner.decode(written.ids)
    return captions


def on_lab(images: int, seed: int, judges: Path | None) -> dict[str, dict[str, Interval]]:
    from rlcap.algo.advantages import combine
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig, mix_entries
    from rlcap.lab.source import load_split
    from rlcap.lab.truth import LabTruth
    from rlcap.lab.truth_metrics import truth_metrics
    from rlcap.reward.mix import RewardMix

    config = load_config(GRPOConfig, ROOT / "recipes" / "configs" / "lab.yaml", [])
    samples = load_split("test", images, seed)
    start = time.perf_counter()
    captions = sampled(samples, config, seed)
    print(f"  {len(captions)} captions sampled in {time.perf_counter() - start:.0f} s", flush=True)
    rows = [sample for sample in samples for _ in range(GROUP)]
    known = {sample.id: sample.image for sample in samples}
    bags = [tuple(known[id] for id in s.distractors.get("hard", ()) if id in known)[:4] for s in rows]
    default = mix_entries(config.mix)
    pairs = [(sample.image, sample.references[0]) for sample in load_split("train", 560)]
    given: dict[str, Any] = {REFERENCES: [sample.references for sample in samples], PAIRS: pairs}
    if judges is not None:
        given |= {ANSWERER: str(judges / "answerer"), CHOOSER: str(judges / "chooser")}
    entries = default | with_paths(LAB, given)
    mix = RewardMix.from_config(entries, context={"gallery": sorted(known.values())}, max_abstain=1.0)
    scored = mix.score(RewardBatch(captions, rows, bags))
    k = len(default)
    values = {name: scored.values[:, i].numpy().astype(float) for i, name in enumerate(mix.names)}
    found = combine(
        scored.values[:, :k], mix.weights[:k], GROUP, normalize=mix.normalize[:k], reward_ranges=mix.reward_ranges[:k]
    )
    values[MIX] = found.advantages.numpy().astype(float)
    truth = np.array([LabTruth().score(caption, sample) for caption, sample in zip(captions, rows, strict=True)])
    false = truth_metrics(captions, rows)["hallucinated"].astype(bool).reshape(-1, GROUP)
    truth = truth.reshape(-1, GROUP)
    results = {name: lab_columns(own.reshape(-1, GROUP), truth, false) for name, own in values.items()}
    if set(LAB) != ALL_LAB:  # some lines were asked for: the mix's own stay as they were
        return {name: results[name] for name in LAB if name in results}
    best = max(default, key=lambda name: results[name]["lab_group"].mean)
    gain = group_gain(values[MIX].reshape(-1, GROUP), values[best].reshape(-1, GROUP), truth)
    return results | {f"{MIX} less {best}": {"lab_group": gain}}


def lab_columns(own: np.ndarray, truth: np.ndarray, false: np.ndarray) -> dict[str, Interval]:
    agreed, pairs = group_agreement(own, truth)
    return {
        "lab_auc": bootstrap(lambda drawn: auc(own[drawn][false[drawn]], own[drawn][~false[drawn]]), len(own)),
        "lab_group": bootstrap(lambda drawn: agreed[drawn].sum() / pairs[drawn].sum(), len(own)),
    }


def table(results: Mapping[str, Mapping[str, Interval]]) -> str:
    """Markdown: a line a reward, a column a question, `–` where it was not asked."""
    columns = [
        c
        for c in ("foil", *SETS, "tau_c", "flawless", "machine", "lab_auc", "lab_group")
        if any(c in r for r in results.values())
    ]
    lines = ["| reward | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, found in results.items():
        cells = [f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" if (i := found.get(c)) else "–" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foil", type=folder, help="folder with nocaps_foil.json")
    parser.add_argument("--flickr8k", type=folder, help="folder with Flickr8k.token.txt and ExpertAnnotations.txt")
    parser.add_argument("--pope", type=folder, help="folder with POPE's captions, instruction2_*.json")
    parser.add_argument("--coco", type=folder, help="folder with annotations/captions_val2017.json, for --pope")
    parser.add_argument("--nli", type=folder, help="folder of an NLI cross-encoder")
    parser.add_argument(
        "--taught", type=folder, help="folder of the same, taught by captions: models/nli of benchmarks/real_photos.py"
    )
    parser.add_argument("--lab_judges", type=folder, help="folder of the models that benchmarks/lab_judges.py makes")
    parser.add_argument("--images", type=positive, default=400, help="images of the lab (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the lab's images and captions; the mix was chosen by those of 0"
    )
    parser.add_argument("--only", choices=("foil", "flickr8k", "pope", "lab"), help="this part alone")
    parser.add_argument("--rewards", nargs="+", help="these lines alone; with --only, the others keep what they have")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything: does it run?")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    asked = parser.parse_args()
    if asked.rewards:
        if strange := sorted(set(asked.rewards) - set(TEXT) - set(LAB)):
            parser.error(f"--rewards: {strange[0]!r} is none of {', '.join(dict.fromkeys([*TEXT, *LAB]))}")
        for entries in (TEXT, LAB):
            for name in set(entries) - set(asked.rewards):
                del entries[name]
    if asked.pope and not asked.coco:
        parser.error("--pope needs --coco DIR, whose captions are the references")
    models: dict[str, Any] = {}
    if asked.only != "lab":
        from rlcap.scorers.grounding import Grounding
        from rlcap.scorers.nli import NliScorer
        from rlcap.scorers.token_matching import TokenMatchingScorer

        given = {NLI: asked.nli, TAUGHT: asked.taught}
        models = {name: Remembering(NliScorer.load(str(path))) for name, path in given.items() if path}
        if NLI in models:
            models[ENCODER] = TokenMatchingScorer.from_nli(models[NLI])
            models[WORDS] = Grounding.from_nli(models[NLI])
        else:
            print("without --nli: the hallucination reward out of the box is judged on the lab alone")
    tenth = 10 if asked.quick else 1
    parts = {
        "foil": lambda: on_foil(asked.foil, models, 1250 // tenth),
        "flickr8k": lambda: merged(
            on_wrong_words(asked.flickr8k, models, 300 // tenth),
            on_experts(asked.flickr8k, models, 280 if asked.quick else None),
        ),
        "pope": lambda: on_machine_captions(asked.pope, asked.coco, models, 225 // tenth),
        "lab": lambda: on_lab(max(2, asked.images // tenth), asked.seed, asked.lab_judges),
    }
    if asked.only not in (None, "lab") and not getattr(asked, asked.only):
        parser.error(f"--only {asked.only} needs --{asked.only} DIR")
    lab = {"images": asked.images, "seed": asked.seed}
    results: Mapping[str, Mapping[str, Interval]] = {}
    if asked.only:
        results, before = earlier(asked.json, asked.quick, asked.only, asked.rewards)
        lab = lab if asked.only == "lab" else before
    for name in [asked.only] if asked.only else parts:
        if name != "lab" and not getattr(asked, name):
            print(f"without --{name}: its columns are left out")
            continue
        print(name, flush=True)
        results = merged(results, parts[name]())
    print("\n" + table(results))
    write_json(
        asked.json,
        quick=asked.quick,
        lab=lab,
        results={n: {c: i._asdict() for c, i in r.items()} for n, r in results.items()},
    )


PART = {
    "foil": ("foil",),
    "flickr8k": (*SETS, "tau_c", "flawless"),
    "pope": ("machine",),
    "lab": ("lab_auc", "lab_group"),
}
"""Part → its columns."""


def earlier(
    path: Path | None, quick: bool, part: str, rewards: Sequence[str] | None
) -> tuple[dict[str, dict[str, Interval]], dict[str, int]]:
    """What the parts other than `part` left in the file, and where `rewards` are named all that others than these have; and the
    lab's images and seed there. Ends the process where one was
    measured by --quick and the other not."""
    if path is None or not path.exists():
        return {}, {}
    written = json.loads(path.read_text())
    if written["quick"] != quick:
        raise SystemExit(f"{path} was measured {'with' if written['quick'] else 'without'} --quick: name another file")
    kept = {
        name: {
            c: Interval(*(np.nan if v is None else v for v in i.values()))
            for c, i in columns.items()
            if c not in PART[part] or (rewards and name not in rewards)
        }
        for name, columns in written["results"].items()
    }
    return {name: columns for name, columns in kept.items() if columns}, written.get("lab", {})


def merged(*parts: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Interval]]:
    """The columns of all parts, by reward."""
    return {name: {k: v for part in parts for k, v in part.get(name, {}).items()} for part in parts for name in part}


if __name__ == "__main__":
    main()
