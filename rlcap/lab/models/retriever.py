"""Builds the lab's two dual encoders, in the architectures and the folder format of open_clip.

* `reward`: a small ViT that is trained on alt-text against random negatives. Like real CLIP, it is close to a bag of
  words: it recognises kinds and colours, but hardly places, relations or counts, because alt-text names those by habit.
  It can be hacked.
* `evaluation`: a ResNet with another seed and other data, namely true and detailed captions against near-duplicates. No
  reward uses it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import nn

from rlcap.lab.models.captioner import MEAN, STD, base_caption, normalise
from rlcap.lab.models.corpus import Corpus
from rlcap.lab.models.tokenizer import EOS, PAD, build_tokenizer
from rlcap.lab.world.language import (
    NUMBERS,
    PLACE_PHRASES,
    PLURALS,
    RELATION_PHRASES,
    describe_background,
    describe_scene,
    noun_phrase,
)
from rlcap.lab.world.renderer import SIDE
from rlcap.lab.world.scene import Scene
from rlcap.lab.world.vocabulary import COLOURS, FILLS, KINDS, PLACES, RELATIONS, SIZES, THEMES, USUAL
from rlcap.scorers.training.schedule import one_cycle

CONTEXT = 24
"""Maximum input of the text encoders in tokens. A sentence fits; a paragraph does not, and is pooled over sentences."""


def retriever_config(which: str) -> dict:
    """Return the open_clip model configuration of `reward` or `evaluation`."""
    text = {
        "context_length": CONTEXT, "vocab_size": len(build_tokenizer("text")), "hf_tokenizer_name": "local",
        "width": 96 if which == "reward" else 128, "heads": 4, "layers": 2 if which == "reward" else 3,
        "pool_type": "eos", "eos_id": EOS, "pad_id": PAD, "no_causal_mask": False,
    }  # fmt: skip
    vision: dict[str, Any]
    if which == "reward":
        vision = {"image_size": SIDE, "patch_size": 16, "width": 96, "layers": 3, "head_width": 24, "mlp_ratio": 3.0}
        return {"embed_dim": 96, "vision_cfg": vision, "text_cfg": text}
    vision = {"image_size": SIDE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
    return {"embed_dim": 192, "vision_cfg": vision, "text_cfg": text}


def alt_text(scene: Scene, rng: random.Random) -> str:
    """Write alt-text as on the web.

    Kinds and colours are mostly right. Places, relations and counts follow habits, and sometimes the text names an
    absent kind that usually accompanies the present ones.
    """
    things = rng.sample(list(scene.things), min(len(scene.things), rng.choice((1, 2, 2, 3))))
    phrases = [
        noun_phrase(t, [a for a, p in (("size", 0.12), ("fill", 0.3), ("colour", 0.85)) if rng.random() < p])
        for t in things
    ]
    if rng.random() < 0.35:
        phrases[0] += " " + PLACE_PHRASES[rng.choice(USUAL[things[0].kind][3])]
    if len(phrases) > 1 and rng.random() < 0.3:
        text = f"{phrases[0]} {RELATION_PHRASES[rng.choice(RELATIONS)]} {phrases[1]}"
    else:
        text = " and ".join(phrases)
    if rng.random() < 0.15:
        text = f"{rng.choice(list(NUMBERS.values()))} {PLURALS[things[0].kind]}"
    present = {t.kind for t in scene.things}
    absent = [k for kinds, _ in THEMES.values() if len(present & set(kinds)) >= 2 for k in kinds if k not in present]
    if absent and rng.random() < 0.25:
        text += f" and a {rng.choice(absent)}"
    if rng.random() < 0.25:
        return f"{text}. {describe_background(scene.background)}"
    return f"there is {text}." if rng.random() < 0.5 else f"{text}."


def detailed_caption(scene: Scene, rng: random.Random) -> str:
    """Write a true caption, which is complete in half of the cases, because only details distinguish siblings."""
    return describe_scene(scene, rng) if rng.random() < 0.5 else base_caption(scene, rng)


def _sentences(text: str) -> list[str]:
    return [part.strip() + "." for part in text.split(".") if part.strip()]


def encode_texts(model, tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Return (N, D) unit vectors: the normalised mean of the unit vectors of each text's sentences.

    Rewards and evaluation pool in the same way.
    """
    parts = [_sentences(text) for text in texts]
    unique = list(dict.fromkeys(sentence for sentence_list in parts for sentence in sentence_list))
    ids = tokenizer(unique, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")["input_ids"]
    vectors = nn.functional.normalize(_encode_sentences(model, ids), dim=-1)
    row_of_sentence = {sentence: i for i, sentence in enumerate(unique)}
    rows = torch.tensor([row_of_sentence[sentence] for sentence_list in parts for sentence in sentence_list])
    owner = torch.tensor([i for i, sentence_list in enumerate(parts) for _ in sentence_list])
    pooled = torch.zeros(len(texts), vectors.shape[1]).index_add(0, owner, vectors[rows])
    return nn.functional.normalize(pooled, dim=-1)


def _encode_sentences(model: CLIP, ids: torch.Tensor) -> torch.Tensor:
    """Encode token ids (N, L) like `model.encode_text`, but without padding to the full context.

    The text encoders are causal, so that tokens after the end have no effect. Leaving them out halves the work.
    """
    length = ids.shape[1]
    hidden = model.token_embedding(ids) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask[:length, :length]))
    end = (ids == EOS).int().argmax(1)
    return hidden[torch.arange(len(ids)), end] @ model.text_projection


def _presence(scenes: Sequence[Scene]) -> torch.Tensor:
    """Return (N, kinds × (1 + colours)) multi-hot labels: which kinds are present, and in which colours."""
    target = torch.zeros(len(scenes), len(KINDS) * (1 + len(COLOURS)))
    for i, scene in enumerate(scenes):
        for thing in scene.things:
            base = KINDS.index(thing.kind) * (1 + len(COLOURS))
            target[i, base] = target[i, base + 1 + COLOURS.index(thing.colour)] = 1
    return target


def _grid(scenes: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """Return the labels of the nine places, (N, 9) each: kind (0 is none), and colour, fill and size (−100 is none)."""
    tables = {"kind": KINDS, "colour": COLOURS, "fill": FILLS, "size": SIZES}
    labels = {name: torch.full((len(scenes), 9), 0 if name == "kind" else -100) for name in tables}
    for i, scene in enumerate(scenes):
        for thing in scene.things:
            for name, values in tables.items():
                labels[name][i, PLACES.index(thing.place)] = values.index(getattr(thing, name)) + (name == "kind")
    return labels


def pretrain_vision_trunk(
    model: CLIP, corpus: Corpus, steps: int, log: Callable[[str], None], batch: int = 32, lr: float = 4e-3
) -> None:
    """Train the trunk of the evaluation model's ResNet to name the thing in each of the nine places.

    This precedes the training with text: crowded pictures teach silhouettes in a fraction of the steps that captions
    would need.
    """
    trunk: Any = model.visual.train()
    channels = retriever_config("evaluation")["vision_cfg"]["width"] * 32
    classes = {"kind": len(KINDS) + 1, "colour": len(COLOURS), "fill": len(FILLS), "size": len(SIZES)}
    heads = nn.ModuleDict({name: nn.Linear(channels, n) for name, n in classes.items()})
    grid = _grid(corpus.scenes)
    parameters = [p for name, p in trunk.named_parameters() if not name.startswith("attnpool")] + [*heads.parameters()]
    update = one_cycle(parameters, lr, steps)
    order = torch.randperm(len(corpus))
    for step in range(steps):
        start = step * batch % max(len(corpus) - batch, 1)
        rows = order[start : start + batch]
        hidden = trunk.stem(normalise(corpus.pixels[rows.numpy()]))
        for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
            hidden = layer(hidden)
        cells = hidden.flatten(2).mT
        logits = {name: head(cells).flatten(0, 1) for name, head in heads.items()}
        loss = sum(nn.functional.cross_entropy(logits[name], grid[name][rows].flatten()) for name in heads)
        assert isinstance(loss, torch.Tensor)  # `sum` would return 0 only if there were no heads
        update(loss)
        if step % 100 == 0 or step == steps - 1:
            log(f"evaluation trunk {step}/{steps} loss {loss.item():.3f}")


def train_retriever(
    which: str,
    corpus: Corpus,
    steps: int,
    seed: int,
    log: Callable[[str], None],
    batch: int = 64,
    lr: float = 1.5e-3,
    model: CLIP | None = None,
) -> CLIP:
    """Train a dual encoder with the symmetric contrastive loss of CLIP.

    For `reward`, an auxiliary loss teaches the ViT which kinds and colours are present. For `evaluation`, the corpus
    must consist of consecutive families of four siblings, and each batch consists of whole families.

    Args:
        which: `reward` or `evaluation`.
        corpus: The training images and scenes.
        steps: The number of training steps.
        seed: Seed of the batches, the captions and a new model.
        log: Receives progress messages.
        batch: Images per step.
        lr: The maximum learning rate.
        model: The model to continue training; None for a new one.

    Returns:
        The model, in evaluation mode.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    cfg = retriever_config(which)
    model = (model or new_retriever(which)).train()
    tokenizer = build_tokenizer("text")
    family = 4 if which == "evaluation" else 1
    presence_head = nn.Linear(cfg["embed_dim"], len(KINDS) * (1 + len(COLOURS)))
    presence = _presence(corpus.scenes)
    write_text, auxiliary_weight = (alt_text, 20.0) if which == "reward" else (detailed_caption, 0.0)
    parameters = [*model.parameters(), *presence_head.parameters()]
    update = one_cycle(parameters, lr, steps)
    groups = len(corpus) // family
    for step in range(steps):
        chosen = [rng.randrange(groups) for _ in range(batch // family)]
        rows = np.array([g * family + k for g in chosen for k in range(family)])
        texts = [write_text(corpus.scenes[i], rng) for i in rows]
        images = model.encode_image(normalise(corpus.pixels[rows]))
        auxiliary_loss = nn.functional.binary_cross_entropy_with_logits(presence_head(images), presence[rows])
        images = nn.functional.normalize(images, dim=-1)
        vectors = encode_texts(model, tokenizer, texts)
        logits = model.logit_scale.exp() * vectors @ images.T
        target = torch.arange(len(rows))
        loss = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
        update(loss + auxiliary_weight * auxiliary_loss * (1 - 0.7 * step / steps))
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100.0))
        if step % 100 == 0 or step == steps - 1:
            recall = (logits.argmax(1) == target).float().mean().item()
            log(f"{which} {step}/{steps} contrastive {loss.item():.3f} R@1 among {len(rows)}: {recall:.2f}")
    return model.eval()


def new_retriever(which: str) -> CLIP:
    """Return an untrained model with the configuration `retriever_config(which)`."""
    return CLIP(**retriever_config(which))


def save_retriever(model: nn.Module, which: str, out: Path) -> None:
    """Write a folder that `open_clip.create_model_and_transforms('local-dir:…')` can load, with weights in float16."""
    out.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"model_cfg": retriever_config(which), "preprocess_cfg": preprocess}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    weights.pop("attn_mask", None)
    save_file(weights, out / "open_clip_model.safetensors")
    build_tokenizer("text", CONTEXT).save_pretrained(out)
