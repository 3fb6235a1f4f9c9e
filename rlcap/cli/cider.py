"""`rlcap cider`: counts the document frequencies of n-grams for the CIDEr reward."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import SOURCE, add_rows, command, rows


def add(commands: Any) -> None:
    """Add the command."""
    cider = command(
        commands,
        "cider",
        _cider,
        "count the document frequencies by which the CIDEr reward weights n-grams; data.key=value overrides",
    )
    add_rows(cider, SOURCE)
    cider.add_argument(
        "--out",
        type=Path,
        required=True,
        help="JSON file to write, for the parameter `frequencies` of the reward cider",
    )
    cider.add_argument(
        "--tokenizer",
        choices=("words", "ptb"),
        default="words",
        help="what splits texts into words; ptb gives the words of published values (default: words)",
    )


def _cider(options: argparse.Namespace) -> None:
    from rlcap.errors import ConfigError
    from rlcap.scorers.text.cider import CiderD

    texts = [
        sample.references
        for sample in rows(options, check_images=False)
        if any(text.strip() for text in sample.references)
    ]
    if len(texts) < 2:
        raise ConfigError(f"{options.source} has {len(texts)} images with references; frequencies need at least 2")
    cider = CiderD.fit(texts, eos=True, tokenizer=options.tokenizer)
    cider.save(options.out)
    print(f"{options.out}: {len(cider.document_frequencies)} n-grams of {cider.n_documents} images")
