"""`rlcap rm`: teaches a small reward model what a judge decided."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command

EPILOG = """\
A row is a preference or a vote on a text; both may stand in one file, and further keys are ignored:

  {"image": "1.jpg", "chosen": "A red bus waits.", "rejected": "A blue bus waits."}     as in the pairs for rlcap train dpo
  {"image": "1.jpg", "text": "The bus is blue.", "label": 0}                            1: the text is right

examples:
  rlcap rm pairs.jsonl --clip ViT-B-32 --pretrained laion2b_s34b_b79k --out rm
  rlcap probe preference_model mix.preference_model.params.model=rm            how can it be won without a better caption?
  rlcap train grpo --config my.yaml "mix.judge={reward: preference_model, params: {model: rm}}"

`rlcap curate best --pairs` and `rlcap train refine` write preferences. The backbone stays frozen, and the head is trained in seconds.
"""


def add(commands: Any) -> None:
    """Add the command."""
    rm = command(commands, "rm", _rm, "teach a small reward model the preferences or votes of a judge", EPILOG)
    rm.add_argument("decisions", type=Path, nargs="+", help="jsonl files of preferences or votes")
    rm.add_argument(
        "--clip", required=True, help="the backbone: an open_clip name, local-dir:FOLDER or hf-hub:ORG/NAME"
    )
    rm.add_argument("--pretrained", help="tag of the weights of an open_clip name")
    rm.add_argument(
        "--image-root", help="folder to which image paths are relative (default: that of the file of decisions)"
    )
    rm.add_argument(
        "--held-out", type=_inner_share, default=0.15, help="share of the images to measure on (default: %(default)s)"
    )
    rm.add_argument(
        "--l2", type=float, default=0.03, help="weight of the penalty on large weights (default: %(default)s)"
    )
    rm.add_argument(
        "--swaps",
        type=int,
        default=2,
        help="preferences over captions of other images that join each preference; they cost no judge call (default: %(default)s)",
    )
    rm.add_argument("--seed", type=int, default=0, help="draws the held-out images (default: %(default)s)")
    rm.add_argument("--out", type=Path, required=True, help="folder to write, for the reward preference_model")


def _rm(options: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from rlcap.eval.statistics import mean_interval
    from rlcap.io.atomic import make_folder
    from rlcap.scorers.clip import ClipScorer
    from rlcap.scorers.training.reward_model import fit, read_decisions

    decisions = [one for path in options.decisions for one in read_decisions(path, options.image_root)]
    make_folder(options.out, "the reward model")  # so that an error appears before the training
    clip = ClipScorer.load(options.clip, options.pretrained, device="cuda" if torch.cuda.is_available() else "cpu")
    found = fit(clip, decisions, held_out=options.held_out, l2=options.l2, swaps=options.swaps, seed=options.seed)
    held = found.held_out
    right = mean_interval(held.right, held.images)
    by_length = np.asarray(held.right_by_length)
    baseline = float(np.nanmean(by_length)) if not np.isnan(by_length).all() else None
    found.model.config |= {
        "clip": options.clip,
        "pretrained": options.pretrained,
        "trained_on": {"decisions": found.trained, "l2": options.l2, "swaps": options.swaps, "seed": options.seed},
        "held_out": {
            "decisions": len(held.right),
            "images": len(set(held.images)),
            "right": right.mean,
            "interval": None if np.isnan(right.low) else [right.low, right.high],
            "right_by_length": baseline,
        },
    }
    found.model.save(options.out)
    print(
        f"{options.out}: decides as the judge did in {right.mean:.3f} [{right.low:.3f}, {right.high:.3f}] of {len(held.right):,} decisions "
        f"about {len(set(held.images)):,} held-out images; trained on {found.trained:,} decisions"
    )
    if baseline is not None:
        print(f"the longer caption is the preferred one in {baseline:.3f} of the held-out pairs")


def _inner_share(text: str) -> float:
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {number}")
    return number
