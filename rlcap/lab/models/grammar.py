"""Builds the lab's classifier of grammatical sentences: a small BERT, trained on references, paragraphs and the sentences of
the base captioner, and on the same sentences spoilt. What is still well formed by the lab's grammar is no spoilt sentence.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from rlcap.lab.models.captioner import base_caption
from rlcap.lab.models.tokenizer import PAD, build_tokenizer
from rlcap.lab.source import draw_scene
from rlcap.lab.world.experts import sample_paragraph
from rlcap.lab.world.language import sample_references
from rlcap.lab.world.truth import grammatical_share
from rlcap.scorers.training.grammar import LABELS, usable

LENGTH = 96
"""Tokens of a sentence at most."""


def sentences(rng: random.Random, scenes: int, split: str = "train") -> list[str]:
    """Well-formed sentences about `scenes` scenes, no two alike."""
    texts: list[str] = []
    for _ in range(scenes):
        scene = draw_scene(rng, split, breaking=True if rng.random() < 0.5 else None)
        texts += [*sample_references(scene, rng, 5), sample_paragraph(scene, rng), base_caption(scene, rng)]
    return [text for text in usable(texts) if well_formed(text)]


def well_formed(text: str) -> bool:
    return grammatical_share(text) == 1.0


def new_classifier(seed: int) -> BertForSequenceClassification:
    """The untrained classifier: 2 BERT layers of width 64."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(build_tokenizer("text")), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
        max_position_embeddings=LENGTH, pad_token_id=PAD, type_vocab_size=1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, num_labels=2, id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    return BertForSequenceClassification(config)


def save_classifier(model: BertForSequenceClassification, out: Path) -> None:
    """Write model (float16 safetensors) and tokenizer as a hub repository would hold them."""
    model.half().save_pretrained(out)
    model.float()
    build_tokenizer("text", LENGTH).save_pretrained(out)
