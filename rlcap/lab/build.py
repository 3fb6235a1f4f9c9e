"""Builds every asset of the lab from a seed, on the CPU, and measures its quality (`rlcap lab build`).

An adapter needs its base, and the base `web` needs the captioner, whose vision encoder it shares; otherwise the order
does not matter. `only` builds single assets.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from rlcap.lab.assets import NAMES
from rlcap.lab.models import captioner, grammar, retriever
from rlcap.lab.models import nli as entailment
from rlcap.lab.models.corpus import CROWDED, concatenate, draw_corpus
from rlcap.lab.models.language_model import align_words, encode_images, train_language_model, truthful_tasks
from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.scorers.grammar import AcceptabilityScorer
from rlcap.scorers.training.grammar import accuracy, generate_pairs, train
from rlcap.scorers.training.schedule import one_cycle

RECORD = "build.json"
"""Name of the file beside the assets that records the build time and the quality of each."""
Log = Callable[[str], None]
"""Receives progress messages."""
Size = Callable[[int], int]
"""Full number of images or steps → the number in this build."""
Builder = Callable[[Path, int, Path, Log, Size], dict]
"""Builds an asset: takes its folder, the seed, the folder of all assets, log and size, and returns its quality."""


def build(
    out: Path,
    seed: int = 0,
    only: Sequence[str] | None = None,
    log: Callable[[str], None] = print,
    scale: float = 1.0,
) -> dict:
    """Build assets into the folder `out`. A complete new asset replaces the old one.

    Args:
        out: The folder of the assets.
        seed: The seed of the build.
        only: The names of the assets to build; by default all.
        log: Receives progress messages.
        scale: The share of images and training steps to use. Values below 1 only test the code; the models are poor.

    Returns:
        {asset: {"seconds": float, metric: float, …}}, which is also written to `out/build.json`.

    Raises:
        ValueError: A name in `only` is unknown.
    """
    names = list(only or NAMES)
    if unknown := sorted(set(names) - set(NAMES)):
        raise ValueError(f"unknown asset {', '.join(unknown)}; known: {', '.join(NAMES)}")
    out.mkdir(parents=True, exist_ok=True)
    builders: dict[str, Builder] = {
        "captioner": _captioner,
        "adapter": partial(_adapter, "captioner", 300),
        "retriever": _reward_retriever,
        "judge-retriever": _judge_retriever,
        "nli": _nli,
        "grammar": _grammar,
        "web-captioner": _web_captioner,
        "web-adapter": partial(_adapter, "web-captioner", 900),
    }
    for name in names:
        start = time.time()
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory(dir=out) as unfinished:
            quality = builders[name](Path(unfinished) / name, seed, out, log, lambda full: max(8, round(full * scale)))
            shutil.rmtree(out / name, ignore_errors=True)
            (Path(unfinished) / name).rename(out / name)
        # Read the record again, because builds of other assets may have finished in the meantime.
        record = json.loads((out / RECORD).read_text()) if (out / RECORD).exists() else {}
        record[name] = {"seconds": round(time.time() - start), **quality}
        (out / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        log(f"{name}: {record[name]}")
    return record


def _captioner(folder: Path, seed: int, _out: Path, log: Log, size: Size) -> dict:
    plain = draw_corpus("captioner", size(24_000), breaking=0.5)
    crowded = draw_corpus("tower", size(9_000), breaking=CROWDED)
    encoder = captioner.train_vision_encoder(concatenate(crowded, plain.head(size(5_000))), size(3_600), log)
    model = captioner.new_captioner(encoder)
    features = encode_images(model, plain)
    train_language_model(model, build_tokenizer(), plain.scenes, features, truthful_tasks, size(3_000), seed + 1, log)
    captioner.save_base(model, folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _web_captioner(folder: Path, seed: int, out: Path, log: Log, size: Size) -> dict:
    """Train the language model of the base `web` on the vision encoder of the captioner in `out`."""
    from transformers import FastVlmForConditionalGeneration

    from rlcap.lab.models.quality import verifier_accuracy
    from rlcap.lab.models.web_questions import WORDS, web_tasks
    from rlcap.lab.source import load_split
    from rlcap.scorers.vqa_yes_probability import YesProbabilityScorer

    pretrained = FastVlmForConditionalGeneration.from_pretrained(out / "captioner", dtype=torch.float32)
    model = captioner.new_captioner(pretrained.model.vision_tower.eval(), WORDS)
    corpus, tokenizer = draw_corpus("web", size(16_000), breaking=0.0), build_tokenizer(words=WORDS)
    features = encode_images(model, corpus)
    align_words(model, tokenizer, corpus, features, size(400), seed + 31, log)
    train_language_model(
        model, tokenizer, corpus.scenes, features, web_tasks, size(3_600), seed + 32, log, batch=16, lr=1e-3
    )
    captioner.save_base(model, folder, WORDS)
    accuracy = verifier_accuracy(YesProbabilityScorer.load(str(folder)), load_split("validation", size(140), seed))
    return {
        "verifier_accuracy": {what: round(share, 4) for what, share in accuracy.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _adapter(base: str, steps: int, folder: Path, seed: int, out: Path, log: Log, size: Size) -> dict:
    """Train the adapter on the captioner of the name `base` in `out`, as `accelerate launch recipes/sft.py` does.

    The base `web` has never written more than two sentences, and needs more steps to learn where a paragraph ends.
    """
    from rlcap.config.schema import DataConfig, ModelConfig
    from rlcap.config.supervised import SFTConfig, SFTTrainConfig
    from rlcap.lab.source import load_split
    from rlcap.lab.world.language import INSTRUCTION
    from rlcap.policy.loading import load_policy
    from rlcap.train.run_folder import RunFolder
    from rlcap.train.sft import build_trainer

    images = size(6_000)
    config = SFTConfig(
        model=ModelConfig(base=str(out / base), adapter=None),
        data=DataConfig(source="rlcap.lab.source:LabSource", train=images, seed=1_000 + seed),
        train=SFTTrainConfig(steps=size(steps), seed=seed),
    )
    policy = load_policy(config.model)
    samples = load_split("train", images, config.data.seed)
    trainer = build_trainer(policy, samples, config, INSTRUCTION, RunFolder(folder.parent / "run"))
    result = trainer.train()
    policy.model.peft_config["default"].base_model_name_or_path = f"lab:{base}"
    policy.model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return {"loss": round(result.training_loss, 4)}


def _reward_retriever(folder: Path, seed: int, _out: Path, log: Log, size: Size) -> dict:
    corpus = draw_corpus("captioner", size(16_000), breaking=0.5)
    model = retriever.train_retriever("reward", corpus, size(1_200), seed + 11, log)
    retriever.save_retriever(model, "reward", folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _judge_retriever(folder: Path, seed: int, _out: Path, log: Log, size: Size) -> dict:
    model = retriever.new_retriever("evaluation")
    retriever.pretrain_vision_trunk(
        model, draw_corpus("evaluation/see", size(9_000), breaking=CROWDED), size(1_000), log
    )
    corpus = draw_corpus("evaluation/23", size(16_000), breaking=0.5, family=4)
    model = retriever.train_retriever("evaluation", corpus, size(2_600), seed + 23, log, batch=48, model=model)
    retriever.save_retriever(model, "evaluation", folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _nli(folder: Path, seed: int, _out: Path, log: Log, size: Size) -> dict:
    model = entailment.new_nli(seed)
    entailment.train_nli(model, entailment.sample_pair, size(3_200), f"nli/{seed}", log)
    entailment.train_nli(model, entailment.harder_pair, size(2_600), f"nli/{seed}/harder", log, lr=1.2e-3)
    rng = random.Random(f"nli/held out/{seed}")
    pairs = [entailment.sample_pair(rng, "test") for _ in range(1_000)]
    entailment.save_nli(model, folder)
    return {
        "accuracy": round(entailment.accuracy(model, pairs), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _grammar(folder: Path, seed: int, _out: Path, _log: Log, size: Size) -> dict:
    model, tokenizer, steps = grammar.new_classifier(seed), build_tokenizer("text", grammar.LENGTH), size(2_000)
    texts = grammar.sentences(random.Random(f"grammar/{seed}"), size(1_500))
    drawn = generate_pairs(texts, random.Random(f"grammar/{seed}/spoilt"), grammar.well_formed)
    train(model, tokenizer, drawn, one_cycle(model.parameters(), 2e-3, steps), steps)
    grammar.save_classifier(model, folder)
    held_out = grammar.sentences(random.Random(f"grammar/held out/{seed}"), size(150), "test")
    unseen = generate_pairs(held_out, random.Random(f"grammar/{seed}/unseen"), grammar.well_formed)
    scorer = AcceptabilityScorer(model, tokenizer)
    return {
        "accuracy": round(accuracy(scorer, [next(unseen) for _ in range(1_000)]), 4),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
