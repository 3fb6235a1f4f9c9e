"""`rlcap cider | grammar | nli`: what some rewards have to count or learn before they can judge."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import add_rows, command, positive, rows

if TYPE_CHECKING:
    from rlcap.types import Sample

SOURCE = "a .jsonl file, a COCO captions .json, a Hugging Face data set's folder, or lab"


def add(commands: Any) -> None:
    cider = command(
        commands,
        "cider",
        _cider,
        "count the document frequencies that the CIDEr reward weighs words by; data.key=value overrides",
    )
    add_rows(cider, SOURCE)
    cider.add_argument(
        "--out", type=Path, required=True, help="the file (JSON) for rlcap.rewards.cider:Cider's `frequencies`"
    )

    grammar = command(
        commands,
        "grammar",
        _grammar,
        "teach a text encoder to tell captions from captions with words repeated, left out, put in, swapped or shuffled",
    )
    add_rows(grammar, SOURCE)
    grammar.add_argument(
        "--encoder",
        required=True,
        help="folder or hub name of a text encoder: distilroberta-base, prajjwal1/bert-small",
    )
    grammar.add_argument(
        "--out", type=Path, required=True, help="the folder for rlcap.rewards.grammar:Grammar's `model`"
    )
    grammar.add_argument(
        "--steps", type=positive, default=1_000, help="updates of 32 captions each (default: %(default)s)"
    )
    grammar.add_argument("--learning-rate", type=float, default=5e-5, help="default: %(default)s")

    nli = command(
        commands,
        "nli",
        _nli,
        "teach an NLI model what in a caption is wrong, and what other captions of the image only leave out, from 400 images "
        "on, of which it reads 4,000 at most and no pixel; a quarter of an hour on two cores for a model of 22 million "
        "parameters; data.key=value overrides",
    )
    add_rows(nli, f"{SOURCE}; several captions an image")
    nli.add_argument(
        "--nli",
        required=True,
        help="folder or hub name of an NLI cross-encoder: cross-encoder/nli-deberta-v3-small",
    )
    nli.add_argument(
        "--out", type=Path, required=True, help="the folder for rlcap.rewards.hallucination:Hallucination's `nli`"
    )
    nli.add_argument(
        "--steps",
        type=positive,
        default=1_500,
        help="updates of 16 right and 16 wrong captions each (default: %(default)s)",
    )
    nli.add_argument("--learning-rate", type=float, default=7e-5, help="default: %(default)s")


def _samples(options: argparse.Namespace) -> Iterable[Sample]:
    """The rows of SOURCE, whose images nobody looks at; the lab's training scenes for `lab`."""
    from rlcap.config.schema import DataConfig
    from rlcap.data.source import load_splits

    if options.source == "lab":
        return load_splits(DataConfig(validation=0, test=0, prior_breaking=0))[0]["train"]
    return rows(options, check_images=False)


def _cider(options: argparse.Namespace) -> None:
    from rlcap.errors import ConfigError
    from rlcap.scorers.text.cider import CiderD

    texts = [sample.references for sample in _samples(options) if any(text.strip() for text in sample.references)]
    if len(texts) < 2:
        raise ConfigError(f"{options.source}: {len(texts)} images with references; frequencies need at least 2")
    cider = CiderD.fit(texts, eos=True)
    cider.save(options.out)
    print(f"{options.out}: {len(cider.document_frequencies)} n-grams of {cider.n_documents} images")


def _grammar(options: argparse.Namespace) -> None:
    from rlcap.scorers.training.grammar import fine_tune

    texts = [text for sample in _samples(options) for text in (*sample.references, sample.paragraph or "")]
    right = fine_tune(options.encoder, texts, options.out, options.steps, options.learning_rate)
    print(f"{options.out}: {right:.1%} of sentences that it was not taught, and of the same spoilt, told apart")


def _nli(options: argparse.Namespace) -> None:
    from rlcap.lab.assets import resolve
    from rlcap.scorers.training.nli import fine_tune

    texts = [sample.references for sample in _samples(options)]
    before, after = fine_tune(resolve(options.nli), texts, options.out, options.steps, options.learning_rate)
    print(
        f"{options.out}: AUC {after:.3f} (before: {before:.3f}) on captions of images that it was not taught, right ones "
        "against wrong ones"
    )
