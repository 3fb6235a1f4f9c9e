"""Builds the lab's classifier of grammatical sentences, a small BERT.

It is trained on references, paragraphs and captions of the base captioner, and on corrupted versions of them. A
corrupted sentence that the grammar of the lab still accepts is not used as a negative example.
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
from rlcap.scorers.training.grammar import LABELS, select_usable_sentences

LENGTH = 96
"""Maximum length of a sentence in tokens."""


def sentences(rng: random.Random, scenes: int, split: str = "train") -> list[str]:
    """Write different well-formed sentences about `scenes` random scenes of a split."""
    texts: list[str] = []
    for _ in range(scenes):
        scene = draw_scene(rng, split, breaking=True if rng.random() < 0.5 else None)
        texts += [*sample_references(scene, rng, 5), sample_paragraph(scene, rng), base_caption(scene, rng)]
    return [text for text in select_usable_sentences(texts) if well_formed(text)]


def well_formed(text: str) -> bool:
    """Return whether the grammar of the lab accepts every sentence of a text."""
    return grammatical_share(text) == 1.0


def new_classifier(seed: int) -> BertForSequenceClassification:
    """Return the untrained classifier: 2 BERT layers of width 64."""
    torch.manual_seed(seed)
    config = BertConfig(  # type: ignore[call-arg]  # the class takes the fields of every configuration too
        vocab_size=len(build_tokenizer("text")), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192,
        max_position_embeddings=LENGTH, pad_token_id=PAD, type_vocab_size=1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, num_labels=2, id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    return BertForSequenceClassification(config)


def save_classifier(model: BertForSequenceClassification, out: Path) -> None:
    """Write the model (float16 safetensors) and the tokenizer in the layout of a hub repository."""
    model.half().save_pretrained(out)
    model.float()
    build_tokenizer("text", LENGTH).save_pretrained(out)
