"""Builds the lab's NLI cross-encoder: do the references support, contradict, or not mention the claims of a sentence?

The labels follow from logic, not from the scene: `rlcap.lab.world.truth` parses premise and hypothesis, and their
claims are compared.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from rlcap.lab.models.captioner import base_caption
from rlcap.lab.models.tokenizer import PAD, build_tokenizer
from rlcap.lab.source import draw_scene
from rlcap.lab.world.experts import sample_paragraph
from rlcap.lab.world.language import sample_references
from rlcap.lab.world.scene import sample_sibling
from rlcap.lab.world.truth import parse_caption
from rlcap.lab.world.vocabulary import OPPOSITE
from rlcap.scorers.training.schedule import one_cycle

LABELS = ("entailment", "neutral", "contradiction")
"""The labels, in the order of the model's outputs."""
LENGTH = 128
"""Maximum length of premise and hypothesis together in tokens; five references and a sentence fit."""


def label_pair(premise: str, hypothesis: str) -> int:
    """Return the label of a pair as an index into `LABELS`.

    The hypothesis is contradicted if any of its claims is: the premise states another value for the kind, or the
    opposite relation. It is entailed if the premise states every claim. Otherwise it is neutral.
    """
    stated: dict[tuple[str, str], set[str]] = defaultdict(set)
    relations: set[tuple[str, str, str]] = set()
    mentions, links, grounds = parse_caption(premise)
    for mention in mentions:
        stated[mention.kind, "object"].add(mention.kind)
        for name, value in mention.attributes.items():
            stated[mention.kind, name].add(value)
        if mention.count > 1:
            stated[mention.kind, "count"].add(str(mention.count))
    for one, relation, two in links:
        a, b = mentions[one].kind, mentions[two].kind
        relations |= {(a, relation, b), (b, OPPOSITE[relation], a)}
    for ground in grounds:
        stated["", "background"].add(ground)

    mentions, links, grounds = parse_caption(hypothesis)
    claims = [((m.kind, "object"), m.kind) for m in mentions]
    claims += [((m.kind, name), value) for m in mentions for name, value in m.attributes.items()]
    claims += [((m.kind, "count"), str(m.count)) for m in mentions if m.count > 1]
    claims += [(("", "background"), ground) for ground in grounds]
    is_entailed = True
    for key, value in claims:
        if value in stated[key]:
            continue
        if stated[key]:
            return LABELS.index("contradiction")
        is_entailed = False
    for one, relation, two in links:
        a, b = mentions[one].kind, mentions[two].kind
        if (a, relation, b) in relations:
            continue
        if (a, OPPOSITE[relation], b) in relations:
            return LABELS.index("contradiction")
        is_entailed = False
    return LABELS.index("entailment" if is_entailed else "neutral")


def sample_pair(rng: random.Random, split: str = "train") -> tuple[str, str, int]:
    """Draw (premise, hypothesis, label).

    The premise consists of one to five references of a scene. The hypothesis consists of one to three sentences about
    the scene, about a near-duplicate, or from a fused paragraph.
    """
    scene = draw_scene(rng, split)
    premise = " ".join(sample_references(scene, rng, 5)[: rng.choice((1, 3, 5, 5, 5))])
    choice = rng.random()
    if choice < 0.4:
        text = base_caption(scene, rng)
    elif choice < 0.8:
        text = base_caption(sample_sibling(scene, rng, rng.choice((1, 2, 3))), rng)
    else:
        text = sample_paragraph(scene, rng)
    parts = [part.strip() + "." for part in text.split(".") if part.strip()]
    first = rng.randrange(len(parts))
    hypothesis = " ".join(parts[first : first + rng.choice((1, 1, 1, 2, 3))])
    return premise, hypothesis, label_pair(premise, hypothesis)


def harder_pair(rng: random.Random) -> tuple[str, str, int]:
    """Draw a pair like `sample_pair`, but reject two of three neutral pairs, since rewards depend on contradictions."""
    while True:
        pair = sample_pair(rng)
        if pair[2] != LABELS.index("neutral") or rng.random() < 0.35:
            return pair


def new_nli(seed: int) -> BertForSequenceClassification:
    """Return the untrained cross-encoder: 4 BERT layers of width 96."""
    torch.manual_seed(seed)
    config = BertConfig(  # type: ignore[call-arg]  # the class takes the fields of every configuration too
        vocab_size=len(build_tokenizer("pair")), hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256,
        max_position_embeddings=LENGTH, pad_token_id=PAD, type_vocab_size=2, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, num_labels=3, id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    return BertForSequenceClassification(config)


def train_nli(
    model: BertForSequenceClassification,
    draw: Callable[[random.Random], tuple[str, str, int]],
    steps: int,
    seed: str,
    log: Callable[[str], None],
    batch: int = 48,
    lr: float = 1.5e-3,
) -> BertForSequenceClassification:
    """Train a model on (premise, hypothesis, label) triples from `draw`, with one cycle of warm-up and decay."""
    rng = random.Random(seed)
    tokenizer = build_tokenizer("pair")
    update = one_cycle(model.parameters(), lr, steps)
    accuracies: list[float] = []
    for step in range(steps):
        pairs = [draw(rng) for _ in range(batch)]
        inputs = tokenizer([p for p, _, _ in pairs], [h for _, h, _ in pairs], padding=True, truncation=True,
                           max_length=LENGTH, return_tensors="pt", return_token_type_ids=True)  # fmt: skip
        target = torch.tensor([label for _, _, label in pairs])
        logits = model(**inputs).logits
        loss = nn.functional.cross_entropy(logits, target)
        update(loss)
        accuracies.append((logits.argmax(-1) == target).float().mean().item())
        if step % 100 == 0 or step == steps - 1:
            recent = accuracies[-100:]
            log(
                f"nli {step}/{steps} loss {loss.item():.3f} "
                f"accuracy of the last {len(recent)}: {sum(recent) / len(recent):.3f}"
            )
    return model.eval()


@torch.no_grad()
def accuracy(model: BertForSequenceClassification, pairs: list[tuple[str, str, int]]) -> float:
    """Return the share of (premise, hypothesis, label) triples that the model labels correctly, in [0, 1]."""
    tokenizer = build_tokenizer("pair")
    correct = 0
    for start in range(0, len(pairs), 100):
        batch = pairs[start : start + 100]
        inputs = tokenizer([p for p, _, _ in batch], [h for _, h, _ in batch], padding=True, truncation=True,
                           max_length=LENGTH, return_tensors="pt", return_token_type_ids=True)  # fmt: skip
        correct += int((model(**inputs).logits.argmax(-1) == torch.tensor([label for _, _, label in batch])).sum())
    return correct / len(pairs)


def save_nli(model: BertForSequenceClassification, out: Path) -> None:
    """Write the model (float16 safetensors) and the tokenizer in the layout of a hub repository."""
    model.half().save_pretrained(out)
    model.float()
    build_tokenizer("pair", LENGTH).save_pretrained(out)
