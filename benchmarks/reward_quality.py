r"""How well does each reward agree with people, and with the truth?

    python benchmarks/lab_judges.py --out DIR
    python benchmarks/real_photos.py --coco DIR --nli DIR --tower FILE --pope DIR      # makes runs/real-photos/models/nli
    python benchmarks/reward_quality.py --foil DIR --flickr8k DIR --pope DIR --coco DIR --nli DIR --taught runs/real-photos/models/nli \
        --lab_judges DIR --json FILE

The table has one line for each reward and one column for each question, with 95 % bootstrap intervals:

    foil       share of nocaps-FOIL triples whose human caption scores above the same caption with one wrong object (ties half)
    <kind>     the same on Flickr8k's captions with one wrong word (`caption_foils`): object, attribute, count, place, relation,
               action; the caption is the first of each image, the others are its references
    tau_c      Kendall's τ-c with the three experts' ratings of Flickr8k-Expert, against all five references, as published
    flawless   AUC there: captions in which all three experts found no error, against those that all found related and some
               found wrong (sum of ratings 6 to 11)
    machine    AUC of captions by five published vision-language models (POPE's files, their instruction of a short caption):
               those that mention one of COCO's 80 kinds of things that none of the five annotators mentions, against the
               others. The references determine this label, so `chair` is left out
    lab_auc    AUC of the lab's sampled captions: those without a false claim, against the others
    lab_group  share of the pairs among one image's eight captions that the reward orders as the truth does, which is what RL uses

The lab's captions are sampled from its MLE captioner at temperature 1, eight per image, as at the start of training.
The truth is `rlcap.lab.truth.LabTruth.score`: the harmonic mean of precision and recall of facts, times the grammatical
share; pairs of equal truth do not count. The mix is in the table with its advantage (the trainer's own arithmetic),
which is centred for each image, so that its lab_auc says little. Below the table stands how much more the mix agrees
within groups than the best of its terms, image by image. Its weights were chosen on the images of seed 0; those of seed
1 were used only afterwards.

A part whose folder is not given is left out. The folders hold nocaps_foil.json; Flickr8k.token.txt with
ExpertAnnotations.txt; POPE's instruction2_*.json; COCO's annotations/captions_val2017.json; an NLI cross-encoder; the
same after training on captions. Everything together takes an hour on one core: --only measures one part and adds its
columns to those that the file of --json has.
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
from rlcap.eval.statistics import Interval, mean_interval
from rlcap.types import RewardBatch, Sample

# isort: split
# Without the split, a folder `runs` in the root changes where ruff sorts this import.
from lab_runs import ROOT, write_json

NLI, TAUGHT, ENCODER, WORDS = "<nli>", "<taught>", "<encoder>", "<words>"
ANSWERER, CHOOSER = "<answerer>", "<chooser>"
REFERENCES, PAIRS = "<references>", "<pairs>"
"""Placeholders: the NLI models of --nli and --taught; the encoder of the former, and the same two thirds of the way up;
the two models of --lab_judges; every reference of the data set (for document frequencies); other images with one
caption each."""
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
"""Rewards besides those of the lab's default mix (recipes/configs/lab.yaml), with the lab's models."""
ALL_LAB = frozenset(LAB)
MIX = "default mix"
GROUP = 8
CHUNK = 100


def fill_placeholders(entries: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries with their placeholders replaced, without entries whose placeholder has no value."""
    filled = {}
    for name, entry in entries.items():
        params = {key: values.get(v, v) if isinstance(v, str) else v for key, v in entry.get("params", {}).items()}
        if not {NLI, TAUGHT, ENCODER, WORDS, ANSWERER, CHOOSER} & {v for v in params.values() if isinstance(v, str)}:
            filled[name] = {**entry, "params": params}
    return filled


class CachingScorer:
    """An NLI scorer that remembers the pairs it has judged, because several forms of a reward ask the same."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.known = scorer, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str]) -> Any:
        """Return (N, 3) probabilities of N pairs."""
        import torch

        pairs = list(zip(premises, hypotheses, strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        if new:
            self.known.update(zip(new, self.scorer.probabilities(*zip(*new, strict=True)), strict=True))
        return torch.stack([self.known[pair] for pair in pairs]) if pairs else torch.zeros(0, 3)


def score_entries(
    entries: Mapping[str, Any], batch: RewardBatch, references: Sequence[Any], models: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the values (N,) of each reward, NaN where it abstained.

    Args:
        entries: name → reward, as a mix names it.
        batch: N captions.
        references: every reference of the data set.
        models: placeholder → its value.
    """
    from rlcap.config.imports import build, resolve

    values = {REFERENCES: references, **models}
    values_by_reward = {}
    for name, entry in fill_placeholders(entries, values).items():
        reward = build(resolve(entry["reward"]), entry["params"], {}, entry["reward"])
        scores: list[Any] = []
        for start in trange(0, len(batch.captions), CHUNK, desc=f"  {name}", unit_scale=CHUNK, unit=" captions"):
            part = slice(start, start + CHUNK)
            scores += reward.score(RewardBatch(batch.captions[part], batch.samples[part]))
        values_by_reward[name] = np.array([np.nan if score.value is None else score.value for score in scores])
    return values_by_reward


def make_batch(captions: Sequence[str], references: Sequence[Sequence[str]]) -> RewardBatch:
    """Return a batch of captions with their references and without images."""
    samples = [Sample(str(i), "", references=tuple(texts)) for i, texts in enumerate(references)]
    return RewardBatch(list(captions), samples)


def score_pairs(
    triples: Sequence[tuple[Sequence[str], str, str]], kinds: Sequence[str], models: Mapping[str, Any]
) -> dict[str, dict[str, Interval]]:
    """Return reward → kind → share of the better captions that score higher.

    Args:
        triples: N of (references, better caption, worse caption).
        kinds: the kind of each triple.
        models: placeholder → its value.
    """
    references = [texts for texts, _, _ in triples]
    batch = make_batch([t[1] for t in triples] + [t[2] for t in triples], references * 2)
    results = {}
    for name, values in score_entries(TEXT, batch, references, models).items():
        win_values = wins(*np.split(values, 2))
        results[name] = {kind: mean_interval(win_values[[k == kind for k in kinds]]) for kind in dict.fromkeys(kinds)}
    return results


def measure_foil(folder: Path, models: Mapping[str, Any], most: int) -> dict[str, dict[str, Interval]]:
    """Return the column `foil`."""
    rows = json.loads((folder / "nocaps_foil.json").read_text())[:most]
    return score_pairs(
        [(row["references"], row["baseline"], row["foil"]) for row in rows], ["foil"] * len(rows), models
    )


def flickr_captions(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return (image → its five captions, caption id → caption)."""
    by_image: dict[str, list[str]] = defaultdict(list)
    by_id = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        id, caption = line.split("\t")
        by_id[id] = caption
        by_image[id.split("#")[0]].append(caption)
    return dict(by_image), by_id


def measure_wrong_words(folder: Path, models: Mapping[str, Any], images: int) -> dict[str, dict[str, Interval]]:
    """Return one column for each kind of wrong word."""
    by_image, _ = flickr_captions(folder)
    chosen = np.random.default_rng(0).permutation(sorted(by_image))[:images]
    foil_rows = [
        (by_image[i][1:], by_image[i][0], foil) for i in chosen for foil in foils(by_image[i][0], by_image[i][1:])
    ]
    return score_pairs(
        [(texts, caption, foil.text) for texts, caption, foil in foil_rows], [f.kind for *_, f in foil_rows], models
    )


def measure_expert_agreement(
    folder: Path, models: Mapping[str, Any], most: int | None
) -> dict[str, dict[str, Interval]]:
    """Return the columns `tau_c` and `flawless`.

    The rows are pairs of an image with another image's caption; ratings of the image's own captions are left out, as
    published.
    """
    by_image, by_id = flickr_captions(folder)
    rows = [line.split() for line in (folder / "ExpertAnnotations.txt").read_text().splitlines()]
    rows = [row for row in rows if row[0] in by_image and row[1] in by_id and row[1].split("#")[0] != row[0]][:most]
    ratings = np.array([[int(rating) for rating in row[2:]] for row in rows])
    references = [by_image[row[0]] for row in rows]
    values = score_entries(
        TEXT, make_batch([by_id[row[1]] for row in rows], references), list(by_image.values()), models
    )
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


def measure_machine_captions(
    pope: Path, coco: Path, models: Mapping[str, Any], most: int
) -> dict[str, dict[str, Interval]]:
    """Return the column `machine`.

    The captions are the first lines that models wrote about at most `most` images.
    """
    from rlcap.scorers.objects.vocabulary import Vocabulary

    references: dict[int, list[str]] = defaultdict(list)
    for row in json.loads((coco / "annotations" / "captions_val2017.json").read_text())["annotations"]:
        references[row["image_id"]].append(row["caption"].strip())
    files = [json.loads(path.read_text()) for path in sorted(pope.glob("instruction2_*.json"))]
    if not files:
        raise SystemExit(f"{pope} has no instruction2_*.json")
    chosen = sorted({row["image_id"] for row in files[0]})[:most]
    lines_by_image = [(row["image_id"], row["caption"].strip().splitlines()) for rows in files for row in rows]
    rows = [(image, lines[0]) for image, lines in lines_by_image if lines and image in chosen]
    coco80 = Vocabulary.coco()
    known_labels = {image: {label for text in references[image] for label in coco80.mentions(text)} for image in chosen}
    is_false = np.array([bool(set(coco80.mentions(caption)) - known_labels[image]) for image, caption in rows])
    batch = make_batch([caption for _, caption in rows], [references[image] for image, _ in rows])
    entries = {name: entry for name, entry in TEXT.items() if name != "chair"}
    groups = clustered([str(image) for image, _ in rows])
    print(
        f"  {len(rows)} captions of {len(chosen)} images; {is_false.mean():.0%} mention things that no annotator mentions",
        flush=True,
    )

    def separation(own: np.ndarray, drawn: np.ndarray) -> float:
        rows = np.concatenate([groups[i] for i in drawn])
        return auc(own[rows][is_false[rows]], own[rows][~is_false[rows]])

    values = score_entries(entries, batch, list(references.values()), models)
    return {
        name: {"machine": bootstrap(lambda drawn, own=own: separation(own, drawn), len(groups), n=300)}
        for name, own in values.items()
    }


def sample_captions(samples: Sequence[Sample], config: Any, seed: int = 0) -> list[str]:
    """Return eight captions per image by the captioner that training starts from, an image's captions together."""
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
        uniforms = torch.from_numpy(
            np.concatenate([sampling_uniforms(seed, 0, sample.id, GROUP, tokens) for sample in part])
        )
        generated = captioner.generate(
            prompts, GROUP, max_new_tokens=tokens, temperature=1.0, sampling_uniforms=uniforms
        )
        captions += captioner.decode(generated.ids)
    return captions


def measure_lab(images: int, seed: int, judges: Path | None) -> dict[str, dict[str, Interval]]:
    """Return the columns `lab_auc` and `lab_group`."""
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
    captions = sample_captions(samples, config, seed)
    print(f"  {len(captions)} captions sampled in {time.perf_counter() - start:.0f} s", flush=True)
    rows = [sample for sample in samples for _ in range(GROUP)]
    image_of = {sample.id: sample.image for sample in samples}
    bags = [tuple(image_of[id] for id in s.distractors.get("hard", ()) if id in image_of)[:4] for s in rows]
    default = mix_entries(config.mix)
    pairs = [(sample.image, sample.references[0]) for sample in load_split("train", 560)]
    placeholders: dict[str, Any] = {REFERENCES: [sample.references for sample in samples], PAIRS: pairs}
    if judges is not None:
        placeholders |= {ANSWERER: str(judges / "answerer"), CHOOSER: str(judges / "chooser")}
    entries = default | fill_placeholders(LAB, placeholders)
    mix = RewardMix.from_config(entries, context={"gallery": sorted(image_of.values())}, max_abstain=1.0)
    scored = mix.score(RewardBatch(captions, rows, bags))
    k = len(default)
    values = {name: scored.values[:, i].numpy().astype(float) for i, name in enumerate(mix.names)}
    combined = combine(
        scored.values[:, :k], mix.weights[:k], GROUP, normalize=mix.normalize[:k], reward_ranges=mix.reward_ranges[:k]
    )
    values[MIX] = combined.advantages.numpy().astype(float)
    truth = np.array([LabTruth().score(caption, sample) for caption, sample in zip(captions, rows, strict=True)])
    is_false = truth_metrics(captions, rows)["hallucinated"].astype(bool).reshape(-1, GROUP)
    truth = truth.reshape(-1, GROUP)
    families = clustered([sample.cluster for sample in samples])
    results = {name: lab_columns(own.reshape(-1, GROUP), truth, is_false, families) for name, own in values.items()}
    if set(LAB) != ALL_LAB:  # only some lines were asked for: the mix's own lines stay as they were
        return {name: results[name] for name in LAB if name in results}
    best = max(default, key=lambda name: results[name]["lab_group"].mean)
    gain = group_gain(values[MIX].reshape(-1, GROUP), values[best].reshape(-1, GROUP), truth, families)
    return results | {f"{MIX} less {best}": {"lab_group": gain}}


def lab_columns(
    own: np.ndarray, truth: np.ndarray, false: np.ndarray, families: Sequence[np.ndarray]
) -> dict[str, Interval]:
    """Return the columns of one reward on the lab.

    Args:
        own: (images, 8) values of the reward.
        truth: (images, 8) truths.
        false: (images, 8) whether a caption makes a false claim.
        families: The images of each family of near-duplicates, which a resample draws together.
    """
    agreed, pairs = group_agreement(own, truth)

    def separation(drawn: np.ndarray) -> float:
        rows = np.concatenate([families[i] for i in drawn])
        return auc(own[rows][false[rows]], own[rows][~false[rows]])

    def order(drawn: np.ndarray) -> float:
        rows = np.concatenate([families[i] for i in drawn])
        return agreed[rows].sum() / pairs[rows].sum()

    return {"lab_auc": bootstrap(separation, len(families)), "lab_group": bootstrap(order, len(families))}


def table(results: Mapping[str, Mapping[str, Interval]]) -> str:
    """Return a Markdown table: one line for each reward, one column for each question, `–` where it was not asked."""
    columns = [
        c
        for c in ("foil", *SETS, "tau_c", "flawless", "machine", "lab_auc", "lab_group")
        if any(c in r for r in results.values())
    ]
    lines = ["| reward | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, intervals in results.items():
        cells = [f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" if (i := intervals.get(c)) else "–" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure the chosen parts, print the table and write JSON."""
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
    options = parser.parse_args()
    if options.rewards:
        if unknown := sorted(set(options.rewards) - set(TEXT) - set(LAB)):
            parser.error(f"--rewards: {unknown[0]!r} is not one of {', '.join(dict.fromkeys([*TEXT, *LAB]))}")
        for entries in (TEXT, LAB):
            for name in set(entries) - set(options.rewards):
                del entries[name]
    if options.pope and not options.coco:
        parser.error("--pope needs --coco DIR, whose captions are the references")
    models: dict[str, Any] = {}
    if options.only != "lab":
        from rlcap.scorers.grounding import Grounding
        from rlcap.scorers.nli import NliScorer
        from rlcap.scorers.token_matching import TokenMatchingScorer

        paths = {NLI: options.nli, TAUGHT: options.taught}
        models = {name: CachingScorer(NliScorer.load(str(path))) for name, path in paths.items() if path}
        if NLI in models:
            models[ENCODER] = TokenMatchingScorer.from_nli(models[NLI])
            models[WORDS] = Grounding.from_nli(models[NLI])
        else:
            print("without --nli: the hallucination reward out of the box is judged on the lab alone")
    tenth = 10 if options.quick else 1
    parts = {
        "foil": lambda: measure_foil(options.foil, models, 1250 // tenth),
        "flickr8k": lambda: merge(
            measure_wrong_words(options.flickr8k, models, 300 // tenth),
            measure_expert_agreement(options.flickr8k, models, 280 if options.quick else None),
        ),
        "pope": lambda: measure_machine_captions(options.pope, options.coco, models, 225 // tenth),
        "lab": lambda: measure_lab(max(2, options.images // tenth), options.seed, options.lab_judges),
    }
    if options.only not in (None, "lab") and not getattr(options, options.only):
        parser.error(f"--only {options.only} needs --{options.only} DIR")
    lab = {"images": options.images, "seed": options.seed, "resampled": "families"}
    results: Mapping[str, Mapping[str, Interval]] = {}
    if options.only:
        results, before = read_earlier(options.json, options.quick, options.only, options.rewards)
        lab = lab if options.only == "lab" else before
    for name in [options.only] if options.only else parts:
        if name != "lab" and not getattr(options, name):
            print(f"without --{name}: its columns are left out")
            continue
        print(name, flush=True)
        results = merge(results, parts[name]())
    print("\n" + table(results))
    write_json(
        options.json,
        quick=options.quick,
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


def read_earlier(
    path: Path | None, quick: bool, part: str, rewards: Sequence[str] | None
) -> tuple[dict[str, dict[str, Interval]], dict[str, Any]]:
    """Return the earlier columns of the file that stay, and the lab's images and seed there.

    These are the columns of the parts other than `part` and, where `rewards` are named, all columns of the other
    rewards.

    Raises:
        SystemExit: where the file was measured with --quick and this run is not, or the other way round.
    """
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


def merge(*parts: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Interval]]:
    """Merge the columns of all parts, by reward."""
    return {name: {k: v for part in parts for k, v in part.get(name, {}).items()} for part in parts for name in part}


if __name__ == "__main__":
    main()
