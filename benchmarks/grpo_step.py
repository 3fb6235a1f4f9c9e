"""How much faster is a GRPO step whose captions share their image and instruction?

    python benchmarks/grpo_step.py --json step.json
    python benchmarks/grpo_step.py --layers 4 --width 128 --shapes vision --generations 8     # a first look, in a minute
    python benchmarks/grpo_step.py --model qwen2.5-vl-3b --dtype bfloat16 --images 8 --micro_batch 8     # on a GPU

`stock` is `trl.GRPOTrainer`, `shared` is rlcap's. Both train the same model of random weights (`step_models.py`) with a
LoRA on the language side, with `trainer.train()`, in turn in one process, on the same images and instruction, with the
same sampling settings and a reward that costs nothing. A step is everything between two optimizer steps: images are
processed, captions are generated and scored, and the policy is updated. There is no KL term (TRL's default);
`reference` is the pass that a KL term would need. Captions are forced to their full length, and the best of `--repeats`
steps counts.

Then both compute the log-probabilities of the same captions, and loss and gradient are compared. `rounding` is the
difference between stock's values in one batch and one by one, which is large in bfloat16. Peak memory is measured in a
separate process for each side; on a GPU it is the GPU's own count, minus what the other side holds. Shapes: `vision`
has 576 visual and 64 caption tokens, `text` 64 and 200.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import trl
from datasets import Dataset
from PIL import Image
from step_models import INSTRUCTION, PIXELS, SIZES, build
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback

from rlcap.cli.arguments import positive
from rlcap.config.schema import GenerationConfig, GRPOConfig, TrainConfig
from rlcap.data.batching import plan
from rlcap.data.curriculum import parse
from rlcap.policy.families.registry import make_captioner
from rlcap.reward.base import Reward, RewardOutput
from rlcap.reward.mix import RewardMix, RewardTerm
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.run_folder import RunFolder
from rlcap.train.trl_config import trl_config
from rlcap.types import Sample, Score

SHAPES = {"vision": {"grid": 24, "length": 64}, "text": {"grid": 8, "length": 200}}
"""Shape → its size: there are grid x grid visual tokens, and length is the number of caption tokens."""


class Parity(Reward):
    """A reward that costs nothing and differs between captions."""

    name, range, needs = "parity", (0.0, 6.0), frozenset()

    def score(self, batch):
        """Score a batch of captions."""
        return RewardOutput([Score(value(caption)) for caption in batch.captions])


def value(caption: str) -> float:
    """Return the reward of a caption."""
    return float(len(caption) % 7)


class Shared(GRPOTrainer):
    """rlcap's trainer, with captions of full length."""

    def captioner(self, model):
        """Return the captioner without end tokens."""
        captioner = super().captioner(model)
        captioner.end_ids = []
        return captioner


class Stock(trl.GRPOTrainer):
    """TRL's trainer as it is, with a clock around its generation round."""

    def _generate_and_score_completions(self, inputs):
        start = time.perf_counter()
        output = super()._generate_and_score_completions(inputs)
        self._metrics["train"]["seconds/round"].append(time.perf_counter() - start)
        return output


class Clock(TrainerCallback):
    """Seconds of each step, and of its generation round."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_step_begin(self, *_, **__) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__) -> None:
        """Stop the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.steps.append({"step": time.perf_counter() - self.start})

    def on_log(self, args, state, control, logs=None, **_) -> None:
        """Record the seconds of the generation round."""
        if "seconds/round" in logs:
            self.steps[-1]["generate"] = logs["seconds/round"]

    def best(self) -> dict[str, float]:
        """Return the fastest time of each part; the first step, which warms up, is left out."""
        parts = [{**s, "update": s["step"] - s["generate"]} for s in self.steps[1:]]
        return {name: min(part[name] for part in parts) for name in parts[0]}


def trainers(shape: str, generations: int, args: argparse.Namespace, folder: Path, only: str | None = None) -> dict:
    """Return {"stock": (trainer, clock), "shared": (trainer, clock)} on equal models.

    Args:
        shape: a key of `SHAPES`.
        generations: captions per image.
        args: the options.
        folder: folder for images and runs.
        only: the only side to build, for one step.
    """
    side, length = SHAPES[shape]["grid"] * PIXELS[args.model], SHAPES[shape]["length"]
    rng = np.random.default_rng(0)
    samples = []
    for i in range(args.images):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(path)
        samples.append(Sample(id=str(i), image=str(path)))
    micro = min(args.micro_batch or sys.maxsize, args.images * generations)
    train = TrainConfig(
        steps=1 if only else 2, images_per_step=args.images, captions_per_image=generations, micro_batch=micro,
        learning_rate=1e-6, beta=0.0, save_every=1000,
    )  # fmt: skip
    config = GRPOConfig(train=train, generation=GenerationConfig(max_new_tokens=length))
    batching = plan(args.images, generations, micro)
    built = {}
    for name in (only,) if only else ("stock", "shared"):
        model, processor = build(args.model, side, args.device, getattr(torch, args.dtype), args.layers, args.width)
        clock, run = Clock(), RunFolder(folder / name)
        if name == "shared":
            trainer = Shared(
                model, processor, samples, config=config, batching=batching, folder=run,
                mix=RewardMix({"parity": RewardTerm(Parity())}), curriculum=parse(2),
                gallery={s.id: s.image for s in samples}, instruction=INSTRUCTION, callbacks=[clock],
            )  # fmt: skip
        else:
            arguments = trl_config(config, batching, run)
            placeholders = make_captioner(
                model, processor
            ).forbidden_token_ids()  # TRL could not match images and placeholders if a caption held one
            arguments.generation_kwargs = {"min_new_tokens": length, "suppress_tokens": placeholders}
            arguments.save_strategy = "no"
            rows = [
                {"prompt": [{"role": "user", "content": INSTRUCTION}], "image": Image.open(sample.image)}
                for sample in samples
            ]
            trainer = Stock(
                model=model, processing_class=processor, args=arguments, train_dataset=Dataset.from_list(rows),
                reward_funcs=[lambda completions, **_: [value(c[0]["content"]) for c in completions]], callbacks=[clock],
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
        trainer.args.save_strategy = "no"
        built[name] = trainer, clock
    return built


def gradient(trainer, batch: dict) -> tuple[float, torch.Tensor]:
    """Return the loss of a batch and its gradient as one vector."""
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def compare(stock: Stock, shared: Shared) -> dict[str, float]:
    """Compare the two sides on the captions that `stock` generates for a micro-batch.

    Returns:
        Differences of log-probabilities, gradients and losses, and the ratio of the times of a pass without gradient.
    """
    rows = [row for row in stock.train_dataset for _ in range(stock.num_generations)]
    rows = rows[: stock.args.per_device_train_batch_size]
    images = [row["image"] for row in rows[:: stock.num_generations]]
    theirs = stock._generate_and_score_completions(rows)
    with torch.no_grad():
        prompts = shared.captioner(shared.model).prepare(images, INSTRUCTION)
    empty = theirs["completion_ids"].new_zeros(len(rows), 0)
    kept = ("completion_ids", "completion_mask", "advantages", "num_items_in_batch")
    ours = {name: theirs[name] for name in kept} | {"prompts": prompts, "prompt_ids": empty, "prompt_mask": empty}
    image_inputs = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")

    def stock_log_probs(at_once: int | None = None):
        with stock.accelerator.autocast():
            return stock._get_per_token_logps_and_entropies(
                stock.model,
                torch.cat([theirs["prompt_ids"], theirs["completion_ids"]], 1),
                torch.cat([theirs["prompt_mask"], theirs["completion_mask"]], 1),
                theirs["completion_ids"].shape[1],
                batch_size=at_once,
                **{name: theirs[name] for name in image_inputs if name in theirs},
            )[0]

    def shared_log_probs():
        return shared._log_probs(shared.model, prompts, theirs["completion_ids"], theirs["completion_mask"])

    with torch.no_grad():
        stock_values = stock_log_probs()
        difference = (shared_log_probs() - stock_values).abs()
        rounding = (stock_log_probs(1) - stock_values).abs()
        # As if the policy had changed since it generated them: with a ratio of 1 every loss would be 0.
        ours["old_per_token_logps"] = theirs["old_per_token_logps"] = stock_values + 0.1 * torch.randn_like(
            stock_values
        )
        took = {
            f.__name__.removesuffix("_log_probs"): min(map(seconds, (f, f)))
            for f in (stock_log_probs, shared_log_probs)
        }
    (loss, stock_gradient), (our_loss, our_gradient) = gradient(stock, theirs), gradient(shared, ours)
    return {
        "max_logprob_difference": difference.max().item(),
        "mean_logprob_difference": difference.mean().item(),
        "max_logprob_rounding": rounding.max().item(),
        "mean_logprob_rounding": rounding.mean().item(),
        "relative_gradient_difference": ((our_gradient - stock_gradient).norm() / stock_gradient.norm()).item(),
        "loss_stock": loss,
        "loss_shared": our_loss,
        "reference_ratio": took["stock"] / took["shared"],
    }


def seconds(call) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(shape: str, generations: int, name: str, args: argparse.Namespace) -> float:
    """Return the peak memory in GB of a process that runs one step of one side and nothing else."""
    command = [sys.executable, __file__, "--shapes", shape, "--generations", str(generations), "--only", name]
    for option in ("model", "dtype", "images", "micro_batch", "layers", "width", "threads", "device"):
        if getattr(args, option) is not None:
            command += [f"--{option}", str(getattr(args, option))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def run_one(name: str, args: argparse.Namespace) -> None:
    """Run one step of one side and print its peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        trainers(args.shapes[0], args.generations[0], args, Path(folder), name)[name][0].train()
    # getrusage would be wrong: it gives a child its parent's peak.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024 / 1e9)


def weights(trainer) -> int:
    """Return the bytes of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in trainer.model.parameters())


def measure(shape: str, generations: int, args: argparse.Namespace) -> dict:
    """Return the ratios (stock over shared) for one shape, and the differences between the two computations."""
    with tempfile.TemporaryDirectory() as folder:
        built = trainers(shape, generations, args, Path(folder))
        differences = compare(built["stock"][0], built["shared"][0])
        memory: dict[str, float] = {}
        on_gpu = torch.device(args.device).type == "cuda"
        for _ in range(args.repeats):
            for name, other in (("stock", "shared"), ("shared", "stock")):
                if on_gpu:
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                built[name][0].train()
                if on_gpu:
                    memory[name] = (torch.cuda.max_memory_allocated() - weights(built[other][0])) / 1e9
        took = {name: clock.best() for name, (_, clock) in built.items()}
    if not on_gpu:
        memory = {name: peak_memory(shape, generations, name, args) for name in ("stock", "shared")}
    ratios = {f"{part}_ratio": took["stock"][part] / took["shared"][part] for part in ("step", "update", "generate")}
    grid, length = SHAPES[shape]["grid"], SHAPES[shape]["length"]
    return {
        "shape": shape, "generations": generations, **ratios, **differences, "seconds": took, "peak_memory_gb": memory,
        "visual_tokens": grid**2, "caption_tokens": length,
    }  # fmt: skip


def main() -> None:
    """Measure all cases, print the table and write JSON after each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--generations", nargs="+", type=positive, default=[4, 8, 16], help="captions an image")
    parser.add_argument("--model", choices=SIZES, default="llava")
    parser.add_argument("--layers", type=positive, help="of the language model (and llava's tower); default: llava 8")
    parser.add_argument("--width", type=positive, help="of the same; default: llava 384")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the frozen weights")
    parser.add_argument("--images", type=positive, default=2)
    parser.add_argument("--micro_batch", type=positive, help="captions of a pass of the update; default: all")
    parser.add_argument("--repeats", type=positive, default=2, help="times that each side trains two steps")
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("stock", "shared"), help="run one step of one side, print its peak memory")
    parser.add_argument("--json", type=Path, help="written after each case; cases that it holds already are kept")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        return run_one(args.only, args)
    settings = {
        name: str(value) for name, value in vars(args).items() if name not in ("json", "only", "shapes", "generations")
    }
    settings |= {
        "machine": torch.cuda.get_device_name()
        if args.device == "cuda"
        else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "trl": trl.__version__,
    }
    results = measured_before(args.json, settings)
    done = {(case_result["shape"], case_result["generations"]) for case_result in results}
    cases = [(shape, generations) for shape in args.shapes for generations in args.generations]
    for shape, generations in tqdm([case for case in cases if case not in done], desc="cases"):
        case_result = measure(shape, generations, args)
        results.append(case_result)
        tqdm.write(line(case_result))
        if args.json:
            args.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1) + "\n")
    print("\n" + table(results))
    return None


def measured_before(path: Path | None, settings: dict[str, str]) -> list[dict]:
    """Return the cases that the file already holds, if they were measured with the same settings."""
    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text())
    return content["results"] if content["settings"] == settings else []


def line(case_result: dict) -> str:
    """Return one line for a case."""
    memory = case_result["peak_memory_gb"]
    return (
        f"{case_result['shape']:>6} G={case_result['generations']:<2} step {case_result['step_ratio']:.2f}x  "
        f"log-probs apart {case_result['max_logprob_difference']:.1e} (stock by itself {case_result['max_logprob_rounding']:.1e})  "
        f"gradients {case_result['relative_gradient_difference']:.1e}  "
        f"loss {case_result['loss_stock']:.6f} and {case_result['loss_shared']:.6f}  memory {memory['shared']:.2f} of {memory['stock']:.2f} GB"
    )


def table(results: list[dict]) -> str:
    """Return a Markdown table of how many times as fast as TRL the shared step is."""
    lines = [
        "| visual tokens | caption tokens | G | whole step | generate | update | reference pass | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case_result in sorted(results, key=lambda case: (-case["visual_tokens"], case["generations"])):
        parts = " | ".join(
            f"{case_result[f'{part}_ratio']:.1f} ×" for part in ("step", "generate", "update", "reference")
        )
        memory = case_result["peak_memory_gb"]
        lines.append(
            f"| {case_result['visual_tokens']} | {case_result['caption_tokens']} | {case_result['generations']} | {parts} | "
            f"{memory['shared']:.1f} of {memory['stock']:.1f} GB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
