"""`rlcap lab build`: makes every asset of the lab from a seed, on the CPU, and says how good each is.

Order matters only in that the adapter needs the captioner. Each asset can be built alone with `only`.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rlcap.lab.assets import NAMES
from rlcap.lab.models import captioner, grammar, retriever
from rlcap.lab.models import nli as entailment
from rlcap.lab.models.corpus import CROWDED, draw_corpus, join
from rlcap.lab.models.tokenizer import build_tokenizer
from rlcap.scorers.grammar import AcceptabilityScorer
from rlcap.scorers.training.grammar import accuracy, generate_pairs, train
from rlcap.scorers.training.schedule import one_cycle

SECONDS = "build.json"
"""Written beside the assets: seconds and quality of each."""
Log = Callable[[str], None]
Size = Callable[[int], int]
"""A full number of images or steps → how many this build takes."""


def build(
    out: Path,
    seed: int = 0,
    only: Sequence[str] | None = None,
    log: Callable[[str], None] = print,
    scale: float = 1.0,
) -> dict:
    """Build the assets named in `only` (default: all) into `out`; an asset is replaced once its successor is whole.

    scale: share of the images and steps; below 1 the code is tried, and the models are no good.

    Returns {asset: {"seconds": float, metric: float, …}}, which is also kept in `out/build.json`.
    ValueError for an unknown name.
    """
    wanted = list(only or NAMES)
    if unknown := sorted(set(wanted) - set(NAMES)):
        raise ValueError(f"unknown asset {', '.join(unknown)}; known: {', '.join(NAMES)}")
    out.mkdir(parents=True, exist_ok=True)
    makers = {
        "captioner": _captioner,
        "adapter": _adapter,
        "retriever": _reward_retriever,
        "judge-retriever": _judge_retriever,
        "nli": _nli,
        "grammar": _grammar,
    }
    for name in wanted:
        start = time.time()
        torch.manual_seed(seed)
        with tempfile.TemporaryDirectory(dir=out) as partial:
            quality = makers[name](Path(partial) / name, seed, out, log, lambda full: max(8, round(full * scale)))
            shutil.rmtree(out / name, ignore_errors=True)
            (Path(partial) / name).rename(out / name)
        # Read again: builds of other assets may have ended meanwhile.
        record = json.loads((out / SECONDS).read_text()) if (out / SECONDS).exists() else {}
        record[name] = {"seconds": round(time.time() - start), **quality}
        (out / SECONDS).write_text(json.dumps(record, indent=2) + "\n")
        log(f"{name}: {record[name]}")
    return record


def _captioner(folder: Path, seed: int, _out: Path, log: Log, size: Size) -> dict:
    plain = draw_corpus("captioner", size(24_000), breaking=0.5)
    crowded = draw_corpus("tower", size(9_000), breaking=CROWDED)
    tower = captioner.train_tower(join(crowded, plain.head(size(5_000))), size(3_600), log)
    model = captioner.train_base(tower, plain, size(3_000), seed + 1, log)
    captioner.save_base(model, folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _adapter(folder: Path, seed: int, out: Path, log: Log, size: Size) -> dict:
    """What `accelerate launch recipes/sft.py` makes, on the captioner in `out`."""
    from rlcap.config.schema import DataConfig, ModelConfig, SFTConfig, SFTTrainConfig
    from rlcap.lab.source import load_split
    from rlcap.lab.world.language import INSTRUCTION
    from rlcap.policy.loading import load_policy
    from rlcap.train.run_folder import RunFolder
    from rlcap.train.sft import build_trainer

    config = SFTConfig(
        model=ModelConfig(base=str(out / "captioner"), adapter=None),
        data=DataConfig(train=size(6_000), seed=1_000 + seed),
        train=SFTTrainConfig(steps=size(300), seed=seed),
    )
    policy = load_policy(config.model)
    samples = load_split("train", config.data.train, config.data.seed)
    trainer = build_trainer(policy, samples, config, INSTRUCTION, RunFolder(folder.parent / "run"))
    result = trainer.train()
    policy.model.peft_config["default"].base_model_name_or_path = "lab:captioner"
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
    retriever.teach_to_see(model, draw_corpus("evaluation/see", size(9_000), breaking=CROWDED), size(1_000), log)
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
