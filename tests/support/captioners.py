"""A tiny captioner of each family: the real transformers classes with random weights, saved and loaded as from a hub.

`build(name, folder)` gives (model, processor). Widths are 32 to 64, one or two layers, a vocabulary of some eighty
words.
"""

import os

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

DEVICE = os.environ.get("RLCAP_TEST_DEVICE", "cpu")
"""The device of the captioners' tests: `RLCAP_TEST_DEVICE=cuda pytest tests/policy`."""
WORDS = [
    *[
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
        "i",
        "j",
        "k",
        "l",
        "m",
        "n",
        "o",
        "p",
        "q",
        "r",
        "s",
        "t",
        "u",
        "v",
        "w",
        "x",
        "y",
        "z",
    ],
    *[f"word{i}" for i in range(20)],
]
INSTRUCTIONS = ("describe the image", "describe it all in every detail", "what is it")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


def images(count, sides=(56,), seed=0):
    """Return noise images of the given sizes: (height, width), or one number for both."""
    rng = np.random.default_rng(seed)
    shapes = [(side, side) if isinstance(side, int) else side for side in sides]
    return [Image.fromarray(rng.integers(0, 255, (*shapes[i % len(shapes)], 3), np.uint8)) for i in range(count)]


def tokenizer(special=(), named=None, ends=False):
    """Word-level; ids 0 to 3 are pad, beginning, end and unknown. `named` are tokens with an attribute of their own.

    `ends`: a text comes between beginning and end, as BERT's tokenizers have it.
    """
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *special, *(named or {}).values()]
    words = [
        *tokens,
        *WORDS,
        "user",
        "assistant",
        ":",
        "describe",
        "the",
        "image",
        "in",
        "every",
        "detail",
        "what",
        "is",
    ]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        extra_special_tokens=named or list(special),
    )  # fmt: skip


def ids(words, **tokens):
    return {name: words.convert_tokens_to_ids(token) for name, token in tokens.items()}


def text_shape(words, **more):
    return {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, **more,
    }  # fmt: skip


VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def fast_vlm():
    from transformers import FastVlmForConditionalGeneration

    from rlcap.lab.models.captioner import captioner_config, captioner_processor

    config = captioner_config()
    config.text_config.num_hidden_layers, config.text_config.layer_types = 1, config.text_config.layer_types[:1]
    return FastVlmForConditionalGeneration(config), captioner_processor()


def llava():
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )  # fmt: skip

    words = tokenizer(["<image>"])
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=28, patch_size=7),
        text_config=LlamaConfig(**text_shape(words)), **ids(words, image_token_index="<image>"),
    )  # fmt: skip
    pixels = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        pixels, words, patch_size=7, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def llava_onevision():
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )  # fmt: skip

    words = tokenizer(["<image>", "<video>"])
    grid = [[28, 28], [28, 56], [56, 28]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=28, patch_size=7, vision_use_head=False),
        text_config=Qwen2Config(**text_shape(words)), image_grid_pinpoints=grid,
        **ids(words, image_token_index="<image>", video_token_index="<video>"),
    )  # fmt: skip
    size = {"height": 28, "width": 28}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grid), words,
        LlavaOnevisionVideoProcessor(size=size), num_image_tokens=16, vision_feature_select_strategy="full",
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config), processor


QWEN = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TEMPLATE = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")


def qwen_ids(words):
    return ids(
        words, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>", vision_end_token_id="<|vision_end|>",
    )  # fmt: skip


def qwen_processor(kind, words, patch):
    from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pixels = {"patch_size": patch, "min_pixels": (2 * patch) ** 2, "max_pixels": (8 * patch) ** 2}
    return kind(Qwen2VLImageProcessor(**pixels), words, Qwen2VLVideoProcessor(**pixels), chat_template=QWEN_TEMPLATE)


def mrope():
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}


def qwen2_vl():
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    words = tokenizer(QWEN)
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 7},
        text_config=text_shape(words, rope_parameters=mrope()), **qwen_ids(words),
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config), qwen_processor(Qwen2VLProcessor, words, 7)


def qwen2_5_vl():
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    words = tokenizer(QWEN)
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 7,
            "window_size": 28, "out_hidden_size": 32, "fullatt_block_indexes": [1],
        },
        text_config=text_shape(words, rope_parameters=mrope()), **qwen_ids(words),
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config), qwen_processor(Qwen2_5_VLProcessor, words, 7)


def qwen3_vl():
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    words = tokenizer(QWEN)
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8,
            "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        text_config=text_shape(words, head_dim=8, rope_parameters=mrope()), **qwen_ids(words),
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config), qwen_processor(Qwen3VLProcessor, words, 8)


def idefics3():
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    words = tokenizer(IDEFICS)
    processor = Idefics3Processor(
        Idefics3ImageProcessor(**idefics_pixels()), words, 4, TEMPLATE.replace("IMAGE", "<image>")
    )
    return Idefics3ForConditionalGeneration(Idefics3Config(**idefics_shape(words))), processor


def smolvlm():
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMVideoProcessor,
    )
    from transformers.models.smolvlm import processing_smolvlm

    # the class needs num2words for videos only, but does not start without it
    processing_smolvlm.num2words = processing_smolvlm.num2words or str
    words = tokenizer(IDEFICS)
    processor = processing_smolvlm.SmolVLMProcessor(
        SmolVLMImageProcessor(**idefics_pixels()), words,
        SmolVLMVideoProcessor(size={"longest_edge": 28}, max_image_size={"longest_edge": 28}), 4,
        TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip
    return SmolVLMForConditionalGeneration(SmolVLMConfig(**idefics_shape(words))), processor


IDEFICS = [
    "<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>",
    *(f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)),
]  # fmt: skip


def idefics_pixels():
    return {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}, "do_image_splitting": True}


def idefics_shape(words):
    from transformers import LlamaConfig

    return {
        "vision_config": {**VISION, "image_size": 28, "patch_size": 7}, "text_config": LlamaConfig(**text_shape(words)),
        "scale_factor": 2, "pad_token_id": 0, **ids(words, image_token_id="<image>"),
    }  # fmt: skip


def gemma3():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    named = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<img>"}
    words = tokenizer(named=named)
    config = Gemma3Config(
        vision_config={**VISION, "image_size": 28, "patch_size": 7, "vision_use_head": False}, mm_tokens_per_image=4,
        text_config=text_shape(
            words, head_dim=8, query_pre_attn_scalar=8, sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
        ),
        **ids(words, boi_token_index="<boi>", eoi_token_index="<eoi>", image_token_index="<img>"),
    )  # fmt: skip
    pixels = Gemma3ImageProcessor(size={"height": 28, "width": 28})
    processor = Gemma3Processor(pixels, words, chat_template=TEMPLATE.replace("IMAGE", "<boi>"), image_seq_length=4)
    return Gemma3ForConditionalGeneration(config), processor


def paligemma():
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    words = tokenizer(["<image>"])
    pixels = SiglipImageProcessor(size={"height": 28, "width": 28})
    pixels.image_seq_length = 16
    processor = PaliGemmaProcessor(pixels, words)
    config = PaliGemmaConfig(
        vision_config={**VISION, "image_size": 28, "patch_size": 7, "vision_use_head": False}, projection_dim=32,
        text_config={"model_type": "gemma", **text_shape(words, head_dim=8)}, **ids(words, image_token_index="<image>"),
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


def internvl():
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        Qwen2Config,
    )  # fmt: skip

    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    words = tokenizer(named=named)
    config = InternVLConfig(
        vision_config={**VISION, "image_size": [28, 28], "patch_size": [7, 7]}, image_seq_length=4,
        text_config=Qwen2Config(**text_shape(words)), **ids(words, image_token_id="<IMG_CONTEXT>"),
    )  # fmt: skip
    size = {"height": 28, "width": 28}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4), words, InternVLVideoProcessor(size=size),
        image_seq_length=4, chat_template=TEMPLATE.replace("IMAGE", "<IMG_CONTEXT>"),
    )  # fmt: skip
    return InternVLForConditionalGeneration(config), processor


def qformer():
    return {**VISION, "vocab_size": 100, "max_position_embeddings": 64, "cross_attention_frequency": 2}


def t5(words):
    return {
        "model_type": "t5", "vocab_size": len(words), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0, "dropout_rate": 0.0,
    }  # fmt: skip


def opt(words):
    return {
        **text_shape(words), "model_type": "opt", "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0,
    }  # fmt: skip


def small_images(kind="BlipImageProcessor"):
    import transformers

    return getattr(transformers, kind)(size={"height": 28, "width": 28})


def blip_2(text=opt):
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    words = tokenizer(["<image>"])
    config = Blip2Config(
        vision_config={**VISION, "image_size": 28, "patch_size": 7}, qformer_config=qformer(), text_config=text(words),
        num_query_tokens=4, **ids(words, image_token_index="<image>"),
    )  # fmt: skip
    return Blip2ForConditionalGeneration(config), Blip2Processor(small_images(), words, num_query_tokens=4)


def blip_2_t5():
    return blip_2(t5)


def instructblip(text=None):
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration, InstructBlipProcessor

    words = tokenizer(["<image>"])
    config = InstructBlipConfig(
        vision_config={**VISION, "image_size": 28, "patch_size": 7}, qformer_config=qformer(),
        text_config=text(words) if text else {**text_shape(words), "model_type": "llama"},
        num_query_tokens=4, **ids(words, image_token_index="<image>"),
    )  # fmt: skip
    processor = InstructBlipProcessor(small_images(), words, tokenizer(), num_query_tokens=4)
    return InstructBlipForConditionalGeneration(config), processor


def instructblip_t5():
    return instructblip(t5)


def florence2():
    from transformers import CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    words = tokenizer(named={"image_token": "<image>"})
    config = Florence2Config(
        vision_config={
            "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
            "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 4], "num_groups": [2, 4],
            "window_size": 4, "drop_path_rate": 0.0, "projection_dim": 32,
        },
        text_config={
            "model_type": "bart", "vocab_size": len(words), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
            "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "decoder_start_token_id": 2, "forced_eos_token_id": None, "dropout": 0.0,
        },
        **ids(words, image_token_id="<image>"),
    )  # fmt: skip
    pixels = CLIPImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False)
    pixels.image_seq_length = 17
    return Florence2ForConditionalGeneration(config), Florence2Processor(pixels, words)


def vision_encoder_decoder():
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    words = tokenizer()
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(**{**VISION, "hidden_size": 24}, image_size=28, patch_size=7),
        GPT2Config(
            vocab_size=len(words), n_embd=32, n_layer=2, n_head=4, n_positions=128, bos_token_id=1, eos_token_id=2,
            pad_token_id=0, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        ),
        decoder_start_token_id=1, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return VisionEncoderDecoderModel(config), Pair(small_images("ViTImageProcessor"), words)


def blip():
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor

    words = tokenizer(ends=True)
    config = BlipConfig(
        vision_config={**VISION, "image_size": 28, "patch_size": 7},
        text_config={
            **text_shape(words), "sep_token_id": 2, "encoder_hidden_size": 32, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        projection_dim=32,
    )  # fmt: skip
    return BlipForConditionalGeneration(config), BlipProcessor(small_images(), words)


def git():
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    words = tokenizer(ends=True)
    config = GitConfig(
        vision_config={**VISION, "image_size": 28, "patch_size": 7},
        **text_shape(words), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return GitForCausalLM(config), GitProcessor(
        CLIPImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False), words
    )


class Pair:
    """ViT-GPT2 has an image processor and a tokenizer in one folder, and no processor of its own."""

    def __init__(self, image_processor, tokenizer):
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def save_pretrained(self, folder):
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def build(name, folder, auto=AutoModelForImageTextToText):
    """(model in evaluation mode, processor) of the family, through `save_pretrained` and the Auto classes."""
    torch.manual_seed(0)
    model, processor = globals()[name]()
    for parameter in model.parameters():
        # larger than the initial values, so that the image changes the output
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.2)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    model = auto.from_pretrained(folder).eval()
    if isinstance(processor, Pair):
        return model, Pair(AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    return model, AutoProcessor.from_pretrained(folder)
