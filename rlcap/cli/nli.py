"""`rlcap nli`: fine-tune the NLI model of the hallucination reward on captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, add_rows, command, positive, rows


def add(commands: Any) -> None:
    """Add the command."""
    nli = command(
        commands,
        "nli",
        _nli,
        "teach an NLI model which parts of a caption are wrong (needs 400 images with captions; reads at most 4,000; about 15 minutes)",
    )
    nli.epilog = (
        "The time holds for a model of 22 million parameters on two cores. Image files are not read. Overrides such as "
        "data.columns.references=captions apply as in training."
    )
    add_rows(nli, f"{SOURCE}; with several captions per image")
    nli.add_argument(
        "--nli",
        required=True,
        help="folder or hub name of an NLI cross-encoder, such as cross-encoder/nli-deberta-v3-small",
    )
    nli.add_argument(
        "--out", type=Path, required=True, help="folder to write, for the parameter `nli` of the reward hallucination"
    )
    nli.add_argument(
        "--steps",
        type=positive,
        default=1_500,
        help="updates of 16 correct and 16 wrong captions each (default: %(default)s)",
    )
    nli.add_argument("--learning-rate", type=float, default=7e-5, help="default: %(default)s")


def _nli(options: argparse.Namespace) -> None:
    from rlcap.scorers.training.nli import fine_tune

    texts = [sample.references for sample in rows(options, check_images=False)]
    before, after = fine_tune(options.nli, texts, options.out, options.steps, options.learning_rate)
    print(
        f"{options.out}: AUC {after:.3f} (before: {before:.3f}) between correct and wrong captions of held-out images"
    )
