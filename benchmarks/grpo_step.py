"""How much faster is a step whose captions share their image and instruction?

    python benchmarks/grpo_step.py --shapes vision text --generations 4 8 16 --json step.json
    python benchmarks/grpo_step.py --layers 4 --width 128 --generations 8 --threads 1     # a glance, in a minute

A step is generating G captions an image and one update on them (log-probabilities, backward). `stock` is what a trainer
does that knows nothing of groups, `transformers`' own `generate` and forward over G-fold prompts and pixels; `shared` is
rlcap's captioner, its pass over the images counted to generation. Both run in turn in one process, on the same LLaVA of
random weights with a LoRA on the language side, the same captions in the update; the best of `--repeats` counts. Captions
are made to run to their full length. Shapes: `vision` has 576 visual and 64 caption tokens, `text` 64 and 200.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from rlcap.policy.captioner import Captioner
from rlcap.policy.families import captioner_of
from rlcap.policy.load import lora_modules
from rlcap.policy.tokens import token_log_probs

PATCH, WORDS = 14, 8000
SHAPES = {"vision": {"side": 336, "length": 64}, "text": {"side": 112, "length": 200}}
TEMPLATE = "<image> {{ messages[0]['content'][-1]['text'] }}"


def build(side: int, layers: int, width: int) -> Captioner:
    """A LLaVA of `layers` vision and as many text layers, adapted by a LoRA that has begun to learn."""
    torch.manual_seed(0)
    words = ["<pad>", "</s>", "<unk>", "<image>", *(f"w{i}" for i in range(WORDS - 4))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", extra_special_tokens=["<image>"]
    )
    size = {"height": side, "width": side}
    processor = LlavaProcessor(
        CLIPImageProcessor(size=size, crop_size=size), tokenizer, patch_size=PATCH, chat_template=TEMPLATE,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    heads = max(1, width // 64)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
            image_size=side, patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=WORDS, hidden_size=width, intermediate_size=8 * width // 3, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048, pad_token_id=0,
            eos_token_id=1,
        ),
        image_token_index=3,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    lora = LoraConfig(r=16, target_modules=lora_modules(model, "lora-language"), init_lora_weights=False)
    captioner = captioner_of(get_peft_model(model, lora), processor)
    captioner.end_ids = []
    return captioner


def stock_inputs(captioner: Captioner, images: list[Image.Image], instruction: str, count: int) -> dict:
    """Processor outputs for `count` copies of each image's prompt, those of an image side by side."""
    inputs = captioner.processor(images=images, text=[f"<image> {instruction}"] * len(images), return_tensors="pt")
    return {name: value.repeat_interleave(count, 0) for name, value in inputs.items()}


def stock_generate(captioner: Captioner, inputs: dict, length: int) -> torch.Tensor:
    with torch.no_grad():
        out = captioner.model.generate(
            **inputs, do_sample=True, top_k=0, max_new_tokens=length, min_new_tokens=length, pad_token_id=0
        )
    return out[:, inputs["input_ids"].shape[1] :]


def stock_log_probs(captioner: Captioner, inputs: dict, ids: torch.Tensor) -> torch.Tensor:
    full = dict(inputs, input_ids=torch.cat([inputs["input_ids"], ids], 1))
    full["attention_mask"] = torch.ones_like(full["input_ids"])
    logits = captioner.model(**full, logits_to_keep=ids.shape[1] + 1).logits[:, :-1]
    return token_log_probs(logits, ids)


def update(captioner: Captioner, log_probs: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """The gradient of a policy-gradient loss, as one vector."""
    captioner.model.zero_grad()
    (-(advantages[:, None] * log_probs).mean()).backward()
    return torch.cat([p.grad.flatten() for p in captioner.model.parameters() if p.grad is not None])


def seconds(call: Callable[[], object], clock: str = "wall") -> float:
    now = time.process_time if clock == "cpu" else time.perf_counter
    start = now()
    call()
    return now() - start


def measure(shape: str, generations: int, args: argparse.Namespace) -> dict:
    """Ratios (stock over shared) of one shape, and how far the two are apart in what they compute."""
    side, length = SHAPES[shape]["side"], SHAPES[shape]["length"]
    captioner, instruction = build(side, args.layers, args.width), " ".join(f"w{i}" for i in range(16))
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)) for _ in range(args.images)]
    inputs = stock_inputs(captioner, images, instruction, generations)
    prompts = captioner.prepare(images, instruction)
    ids = captioner.generate(prompts, generations, max_new_tokens=length).ids
    mask, advantages = torch.ones_like(ids), torch.randn(len(ids))

    def ours() -> torch.Tensor:
        return captioner.log_probs(prompts, ids, mask).log_probs

    with torch.no_grad():
        apart = (ours() - stock_log_probs(captioner, inputs, ids)).abs().max().item()
    theirs = update(captioner, stock_log_probs(captioner, inputs, ids), advantages)
    gradient = ((update(captioner, ours(), advantages) - theirs).norm() / theirs.norm()).item()

    phases = {
        "stock_generate": lambda: stock_generate(captioner, inputs, length),
        "shared_generate": lambda: captioner.generate(
            captioner.prepare(images, instruction), generations, max_new_tokens=length
        ),
        "stock_update": lambda: update(captioner, stock_log_probs(captioner, inputs, ids), advantages),
        "shared_update": lambda: update(captioner, ours(), advantages),
    }
    took = {name: min(seconds(call, args.clock) for _ in range(args.repeats)) for name, call in phases.items()}
    stock, shared = (took[f"{side}_generate"] + took[f"{side}_update"] for side in ("stock", "shared"))
    return {
        "shape": shape, "generations": generations, "step_ratio": stock / shared,
        "update_ratio": took["stock_update"] / took["shared_update"],
        "generate_ratio": took["stock_generate"] / took["shared_generate"],
        "max_logprob_difference": apart, "relative_gradient_difference": gradient,
        "seconds": took, "visual_tokens": (side // PATCH) ** 2, "caption_tokens": length,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--generations", nargs="+", type=int, default=[4, 8, 16], help="captions an image")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--layers", type=int, default=8, help="of the vision tower, and of the language model")
    parser.add_argument("--width", type=int, default=384, help="of both; heads are 64 wide")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu where others use the machine")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for shape in args.shapes:
        for generations in args.generations:
            found = measure(shape, generations, args)
            results.append(found)
            print(
                f"{shape:>6} G={generations:<2} step {found['step_ratio']:.2f}x  update {found['update_ratio']:.2f}x  "
                f"generate {found['generate_ratio']:.2f}x  log-probs apart {found['max_logprob_difference']:.1e}  "
                f"gradients {found['relative_gradient_difference']:.1e}",
                flush=True,
            )
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        args.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
