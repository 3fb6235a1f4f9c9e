"""The captioners of the lab: FastVLMs with about a million parameters, and the texts of the base `knowing`.

1. The vision encoder learns to name what is in each patch, from labels of the renderer. It is a timm ResNet, because
   convolutions learn silhouettes with a tenth of the training that attention needs. Both bases have the same one.
2. The language model learns from texts about scenes (`rlcap.lab.models.language_model`). That of the base `knowing`
   learns to describe scenes truthfully, at random levels of detail, from scenes with and without habits. That of the
   base `web` learns from short, habit-ridden captions and from questions (`rlcap.lab.models.web_questions`).

The MLE LoRA adapter on top is trained by `recipes/sft.py`, as a user would train it. It learns to omit things and to
assume usual attributes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    Qwen2Config,
    TimmWrapperConfig,
    TimmWrapperModel,
)

from rlcap.lab.models.corpus import Corpus
from rlcap.lab.models.tokenizer import BOS, EOS, IMAGE, PAD, SPECIAL, build_tokenizer
from rlcap.lab.world.language import (
    describe_background,
    describe_count,
    describe_relation,
    describe_thing,
    reading_order,
    relation_between,
)
from rlcap.lab.world.renderer import SIDE
from rlcap.lab.world.scene import Scene
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, PLACES, SIZES
from rlcap.scorers.training.schedule import one_cycle

PATCH = 16
"""Side of a patch in pixels."""
CHANNELS = [32, 64, 128, 128]
"""Channels of the four stages of the vision encoder."""
PATCHES = (SIDE // PATCH) ** 2
"""Patches, and visual tokens, per image."""
MEAN, STD = (0.55, 0.52, 0.47), (0.22, 0.22, 0.24)
"""Mean and standard deviation of the pixels' channels, for normalisation."""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)


def captioner_config(words: Sequence[str] = ()) -> FastVlmConfig:
    """Return the architecture: a narrow ResNet of stride 16, 36 visual tokens and 3 Qwen2 layers, all of width 128.

    Args:
        words: Words of the tokenizer beyond the lab's vocabulary.
    """
    vision = TimmWrapperConfig(  # type: ignore[call-arg]  # the class takes the fields of every configuration too
        architecture="resnet10t", do_pooling=False, num_labels=0,
        model_args={"layers": [1, 1, 1, 1], "channels": CHANNELS, "stem_width": CHANNELS[0] // 2, "output_stride": PATCH},
    )  # fmt: skip
    vision.hidden_size = CHANNELS[-1]
    text = Qwen2Config(
        vocab_size=len(build_tokenizer(words=words)), hidden_size=128, intermediate_size=320, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256, pad_token_id=PAD, bos_token_id=BOS,
        eos_token_id=EOS, tie_word_embeddings=False,
    )  # fmt: skip
    return FastVlmConfig(  # type: ignore[call-arg]  # the class takes the fields of every configuration too
        vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=PATCHES, pad_token_id=PAD,
        bos_token_id=BOS, eos_token_id=EOS,
    )  # fmt: skip


def captioner_processor(words: Sequence[str] = ()) -> LlavaProcessor:
    """Return the processor of a captioner of the lab: image processor, tokenizer and chat template.

    Args:
        words: Words of the tokenizer beyond the lab's vocabulary.
    """
    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=False,
        image_mean=MEAN, image_std=STD,
    )  # fmt: skip
    return LlavaProcessor(
        image_processor=images, tokenizer=build_tokenizer(words=words), patch_size=PATCH, chat_template=CHAT_TEMPLATE,
        vision_feature_select_strategy="full", num_additional_image_tokens=0, image_token=SPECIAL[IMAGE],
    )  # fmt: skip


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """Normalise pixels as the image processor does, (N, SIDE, SIDE, 3) uint8 → (N, 3, SIDE, SIDE) float."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def patch_labels(corpus: Corpus) -> dict[str, torch.Tensor]:
    """Return the labels of the patches: kind, colour, size, fill and place, each (N, PATCHES) int64.

    A patch belongs to the thing that covers most of it, at least 18 %. Without a thing, the kind is 0 and the other
    labels are −100.
    """
    n, grid = len(corpus), SIDE // PATCH
    blocks = corpus.owners.reshape(n, grid, PATCH, grid, PATCH).transpose(0, 1, 3, 2, 4).reshape(n, PATCHES, -1)
    counts = np.stack([(blocks == i).sum(-1) for i in range(9)], -1)
    owner = np.where(counts.max(-1) > PATCH * PATCH * 0.18, counts.argmax(-1), -1)
    tables = {"kind": KINDS, "colour": COLOURS, "size": SIZES, "fill": FILLS, "place": PLACES}
    labels = {name: np.full((n, PATCHES), 0 if name == "kind" else -100, np.int64) for name in tables}
    for i, scene in enumerate(corpus.scenes):
        for j, thing in enumerate(scene.things):
            is_covered = owner[i] == j
            for name, values in tables.items():
                labels[name][i, is_covered] = values.index(getattr(thing, name)) + (name == "kind")
    return {name: torch.from_numpy(values) for name, values in labels.items()}


def visual_tokens(encoder: TimmWrapperModel, pixels: np.ndarray) -> torch.Tensor:
    """Return the visual tokens that FastVLM uses, (N, PATCHES, width): the last feature map of the vision encoder."""
    return encoder(normalise(pixels)).last_hidden_state.flatten(2).mT


def train_vision_encoder(
    corpus: Corpus, steps: int, log: Callable[[str], None], batch: int = 24, lr: float = 5e-3
) -> TimmWrapperModel:
    """Train the vision encoder to predict the labels of each patch, and the background from the mean of the patches."""
    config = captioner_config().vision_config
    assert isinstance(config, TimmWrapperConfig)
    encoder = TimmWrapperModel(config).train()
    width = CHANNELS[-1]
    classes = {
        "kind": len(KINDS) + 1,
        "colour": len(COLOURS),
        "size": len(SIZES),
        "fill": len(FILLS),
        "place": len(PLACES),
    }
    heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in classes.items()})
    norm, ground = nn.LayerNorm(width), nn.Linear(width, len(BACKGROUNDS))
    labels = patch_labels(corpus)
    grounds = torch.tensor([BACKGROUNDS.index(scene.background) for scene in corpus.scenes])
    parameters = [*encoder.parameters(), *norm.parameters(), *heads.parameters(), *ground.parameters()]
    update = one_cycle(parameters, lr, steps, warm_up=0.08)
    order = torch.randperm(len(corpus))
    for step in range(steps):
        start = step * batch % (len(corpus) - batch)
        rows = order[start : start + batch]
        hidden = norm(visual_tokens(encoder, corpus.pixels[rows.numpy()]))
        loss = nn.functional.cross_entropy(ground(hidden.mean(1)), grounds[rows])
        accuracy = {}
        for name, head in heads.items():
            logits, targets = head(hidden).flatten(0, 1), labels[name][rows].flatten()
            loss = loss + nn.functional.cross_entropy(logits, targets)
            has_thing = targets > 0 if name == "kind" else targets >= 0
            accuracy[name] = (logits.argmax(-1) == targets)[has_thing].float().mean().item()
        update(loss)
        if step % 200 == 0 or step == steps - 1:
            accuracies = " ".join(f"{name} {value:.2f}" for name, value in accuracy.items())
            log(f"vision encoder {step}/{steps} loss {loss.item():.3f} {accuracies}")
    return encoder.eval()


def base_caption(scene: Scene, rng: random.Random) -> str:
    """Write a true caption at a random level of detail, as the training data of the base model."""
    detail = rng.choice((0.35, 0.6, 0.85, 1.0))
    things = [t for t in reading_order(scene) if rng.random() < 0.5 + detail / 2] or list(scene.things[:1])
    names = ("size", "fill", "colour", "place")
    sentences = [describe_thing(t, [a for a in names if rng.random() < detail], rng) for t in things]
    for kind in dict.fromkeys(t.kind for t in things):
        if scene.count(kind) > 1 and rng.random() < detail:
            sentences.append(describe_count(kind, scene.count(kind)))
    for first, second in itertools.pairwise(things):
        if first.kind != second.kind and rng.random() < detail * 0.6:
            sentences.append(describe_relation(first, relation_between(first, second, rng), second))
    if rng.random() < detail:
        sentences.append(describe_background(scene.background))
    return " ".join(sentences)


def new_captioner(encoder: TimmWrapperModel, words: Sequence[str] = ()) -> FastVlmForConditionalGeneration:
    """Return a captioner with a trained vision encoder, an untrained projector and an untrained language model."""
    model = FastVlmForConditionalGeneration(captioner_config(words))
    model.model.vision_tower.load_state_dict(encoder.state_dict())
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = PAD, EOS
    model.generation_config.bos_token_id = BOS
    return model


def save_base(model: FastVlmForConditionalGeneration, out: Path, words: Sequence[str] = ()) -> None:
    """Write the model (float16 safetensors) and the processor in the layout of a hub repository."""
    model.half().save_pretrained(out)
    model.float()
    captioner_processor(words).save_pretrained(out)
