"""What do rewards cost besides the models, and what does a cache of images save?

    python benchmarks/reward_overhead.py --json overhead.json

First the main job runs for a few steps on the lab. A step's seconds are divided into the captioner's passes
(generation, reference, update), the passes of the rewards' own models (CLIP and NLI, whenever one of them is running),
and the rest: scoring, packing, advantages, logging. The first steps, which fill the image cache, are left out.

Then the self-retrieval reward scores a batch of captions, and the same similarities are computed as published code does
it: for each caption its candidates' images are opened and encoded again, and each caption is encoded alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from rlcap.cli.arguments import positive

ROOT = Path(__file__).resolve().parent.parent


class MethodClock:
    """Seconds during which at least one of the watched methods is running, in any thread."""

    def __init__(self) -> None:
        self.lock, self.inside, self.since, self.total = threading.Lock(), 0, 0.0, 0.0

    def watch(self, owner: type, name: str) -> None:
        """Replace a method by one that also runs the clock."""
        original = getattr(owner, name)

        def timed(*args, **kwargs):
            with self.lock:
                if not self.inside:
                    self.since = time.perf_counter()
                self.inside += 1
            try:
                return original(*args, **kwargs)
            finally:
                with self.lock:
                    self.inside -= 1
                    if not self.inside:
                        self.total += time.perf_counter() - self.since

        setattr(owner, name, timed)


def step_shares(steps: int, warm: int, overrides: list[str]) -> dict[str, float]:
    """Return the seconds of a step by part, and the share of the rest.

    The values are means over the last `steps` of `warm + steps` steps.
    """
    from open_clip.model import CLIP
    from transformers import BertForSequenceClassification, TrainerCallback

    from rlcap.train.grpo import GRPOTrainer

    models, marks = MethodClock(), []
    for owner, name in ((CLIP, "encode_text"), (CLIP, "encode_image"), (BertForSequenceClassification, "forward")):
        models.watch(owner, name)

    class Marks(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start, self.models = time.perf_counter(), models.total

        def on_step_end(self, *_, **__):
            marks.append({"step": time.perf_counter() - self.start, "reward_models": models.total - self.models})

    build = GRPOTrainer.__init__

    def with_marks(self, *args, callbacks=(), **kwargs):
        build(self, *args, callbacks=[*callbacks, Marks()], **kwargs)

    GRPOTrainer.__init__ = with_marks
    sys.path.insert(0, str(ROOT / "recipes"))
    import grpo

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["grpo.py", "--output_dir", f"{folder}/run", f"train.steps={warm + steps}", "evaluation.every=1000"]
        sys.argv += ["data.validation=7", "data.test=0", "data.options.prior_breaking=0", *overrides]
        with contextlib.redirect_stdout(io.StringIO()):
            grpo.main()
        rows = [json.loads(line)["metrics"] for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    measured = [
        {
            **mark,
            "generate": row["seconds/generate"],
            "reference": row.get("seconds/reference", 0.0),
            "update": row["seconds/update"],
            "score": row["seconds/score"],
        }
        for mark, row in zip(marks, rows, strict=True)
    ][warm:]
    means = {name: sum(row[name] for row in measured) / len(measured) for name in measured[0]}
    computed = means["generate"] + means["reference"] + means["update"] + means["reward_models"]
    return {**means, "rest_share": 1 - computed / means["step"], "score_share": means["score"] / means["step"]}


def retrieval_ratio(captions: int, candidates: int, repeats: int) -> dict[str, float]:
    """Return the seconds of the self-retrieval reward for a batch, and of encoding everything one by one."""
    from rlcap.io.addresses import resolve_address
    from rlcap.io.images import open_image
    from rlcap.lab.source import load_split
    from rlcap.rewards.self_retrieval import SelfRetrieval
    from rlcap.types import RewardBatch

    samples = load_split("train", 140, 0)
    gallery = [sample.image for sample in samples]
    group = [samples[i // 8 * 7] for i in range(captions)]
    with tempfile.TemporaryDirectory() as cache:
        reward = SelfRetrieval(
            resolve_address("local-dir:lab:retriever"), gallery=gallery, candidates=candidates, cache_dir=cache
        )
        batch = RewardBatch([sample.paragraph for sample in group], group, [()] * captions)
        reward.score(batch)  # fills the image cache, which happens once in a run
        ours = min(_seconds(lambda: reward.score(batch)) for _ in range(repeats))
    (retriever,) = reward.retrievers
    model, preprocess, tokenizer = retriever.model, retriever.preprocess, retriever.tokenizer

    @torch.inference_mode()
    def one_by_one() -> None:
        for sample in group:
            text = model.encode_text(tokenizer([sample.paragraph]), normalize=True)[0]
            for path in reward.images(sample.id, sample.image, ()):
                model.encode_image(preprocess(open_image(path))[None], normalize=True)[0] @ text

    theirs = min(_seconds(one_by_one) for _ in range(repeats))
    return {"seconds": ours, "one_by_one_seconds": theirs, "ratio": theirs / ours}


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure both, print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=positive, default=8, help="steps that are measured")
    parser.add_argument("--warm", type=positive, default=3, help="steps before them")
    parser.add_argument("--captions", type=positive, default=64)
    parser.add_argument("--candidates", type=positive, default=20, help="images that a caption chooses among")
    parser.add_argument("--repeats", type=positive, default=2)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", help="dotted overrides of the main job")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shares = step_shares(args.steps, args.warm, args.overrides)
    retrieval = retrieval_ratio(args.captions, args.candidates, args.repeats)
    print("| part of a step | seconds | share |\n|---|---|---|")
    for name in ("generate", "reference", "update", "reward_models"):
        print(f"| {name.replace('_', ' ')} | {shares[name]:.3f} | {shares[name] / shares['step']:.1%} |")
    rest = shares["rest_share"]
    print(f"| everything else | {rest * shares['step']:.3f} | {rest:.1%} |")
    print(f"| scoring as a whole, models included | {shares['score']:.3f} | {shares['score_share']:.1%} |")
    print(
        f"\nself-retrieval of {args.captions} captions among {args.candidates} images: {retrieval['seconds']:.3f} s, one by "
        f"one {retrieval['one_by_one_seconds']:.2f} s: {retrieval['ratio']:.0f} times as fast"
    )
    if args.json:
        machine = {"platform": platform.platform(), "threads": args.threads, "torch": torch.__version__}
        content = {"machine": machine, "step": shares, "self_retrieval": retrieval}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
