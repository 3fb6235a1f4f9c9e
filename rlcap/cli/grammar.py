"""`rlcap grammar`: train the classifier of the grammar reward on captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, add_rows, command, positive, rows


def add(commands: Any) -> None:
    """Add the command."""
    grammar = command(
        commands,
        "grammar",
        _grammar,
        "train a text encoder to distinguish captions from corrupted captions, in which words are repeated, omitted, "
        "inserted, swapped or shuffled; data.key=value overrides",
    )
    add_rows(grammar, SOURCE)
    grammar.add_argument(
        "--encoder",
        required=True,
        help="folder or hub name of a text encoder, such as distilroberta-base or prajjwal1/bert-small",
    )
    grammar.add_argument(
        "--out", type=Path, required=True, help="folder to write, for the parameter `model` of the reward grammar"
    )
    grammar.add_argument(
        "--steps", type=positive, default=1_000, help="updates of 32 captions each (default: %(default)s)"
    )
    grammar.add_argument("--learning-rate", type=float, default=5e-5, help="default: %(default)s")


def _grammar(options: argparse.Namespace) -> None:
    from rlcap.scorers.training.grammar import fine_tune

    texts = [
        text for sample in rows(options, check_images=False) for text in (*sample.references, sample.paragraph or "")
    ]
    accuracy = fine_tune(options.encoder, texts, options.out, options.steps, options.learning_rate)
    print(f"{options.out}: {accuracy:.1%} accuracy on held-out sentences and their corrupted forms")
