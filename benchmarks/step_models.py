"""Captioners with random weights for `grpo_step.py`, each with its processor and a LoRA that has begun to learn.

    model, processor = build("qwen2.5-vl-3b", side=672, device="cuda", dtype=torch.bfloat16)

`llava` has a CLIP vision encoder and a Llama decoder of equal depth and width. `qwen2.5-vl-3b` has the published shape
and the real class of Qwen2.5-VL-3B (3.75 billion parameters): a vision encoder with window attention, 2 x 2 patches
merged into a visual token, grouped keys and values, multimodal rotary positions, tied word embeddings.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from rlcap.policy.loading import find_lora_modules

SIZES = {"llava": (8, 384), "qwen2.5-vl-3b": (36, 2048)}
"""Name → default (layers, width); the vision encoder of `llava` has the same."""
PIXELS = {"llava": 14, "qwen2.5-vl-3b": 28}
"""Side of the square of an image that becomes one visual token."""
QWEN_WORDS = 151936
LLAVA_WORDS = 8000
QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
INSTRUCTION = " ".join(f"w{i}" for i in range(16))


def build(name: str, side: int, device: str, dtype: torch.dtype, layers: int | None = None, width: int | None = None):
    """Return (model, processor) for images of side × side pixels.

    Args:
        name: a key of `SIZES`.
        side: side of the images in pixels.
        device: where the model is made.
        dtype: type of the frozen weights.
        layers: layers of the language model; by default those of `SIZES`.
        width: width of the language model; by default that of `SIZES`.
    """
    layers, width = layers or SIZES[name][0], width or SIZES[name][1]
    torch.manual_seed(0)
    make_model = _llava if name == "llava" else _qwen
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):  # billions of random numbers: minutes on a CPU
            model, processor = make_model(side, layers, width)
    finally:
        torch.set_default_dtype(default_dtype)
    lora = LoraConfig(r=16, target_modules=find_lora_modules(model, "lora-language"), init_lora_weights=False)
    return get_peft_model(model, lora).to(device), processor


def _tokenizer(special: tuple[str, ...], words: int) -> PreTrainedTokenizerFast:
    names = ["<pad>", "</s>", "<unk>", *special]
    names += [f"w{i}" for i in range(words - len(names))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=list(special),
    )


def _llava(side: int, layers: int, width: int) -> tuple[Any, Any]:
    size = {"height": side, "width": side}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size), _tokenizer(("<image>",), LLAVA_WORDS), patch_size=PIXELS["llava"],
        chat_template="<image> {{ messages[0]['content'][-1]['text'] }}", vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    heads = max(1, width // 64)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
            image_size=side, patch_size=PIXELS["llava"],
        ),
        text_config=LlamaConfig(
            vocab_size=LLAVA_WORDS, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048, pad_token_id=0,
            eos_token_id=1,
        ),
        image_token_index=3,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def _qwen(side: int, layers: int, width: int) -> tuple[Any, Any]:
    words = _tokenizer(QWEN_TOKENS, QWEN_WORDS)
    start, end, image, video = (words.convert_tokens_to_ids(token) for token in QWEN_TOKENS)
    pixels = {"min_pixels": side * side, "max_pixels": side * side}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**pixels), words, Qwen2VLVideoProcessor(**pixels),
        chat_template="<|vision_start|><|image_pad|><|vision_end|> {{ messages[0]['content'][-1]['text'] }}",
    )  # fmt: skip
    heads = max(2, width // 128)  # 16 of 128, with 2 of keys and values
    head = width // heads
    published = width == SIZES["qwen2.5-vl-3b"][1]
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    if not published:
        tower = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "fullatt_block_indexes": [1]}
    config = Qwen2_5_VLConfig(
        vision_config={**tower, "out_hidden_size": width},
        text_config={
            "vocab_size": QWEN_WORDS, "hidden_size": width, "intermediate_size": 11008 * width // 2048,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 1,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1000000.0,
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],
            },
        },
        image_token_id=image, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
        tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), processor
