"""`rlcap score`: scores existing captions by each reward of a mix."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command

if TYPE_CHECKING:
    from rlcap.config.schema import GRPOConfig


def add(commands: Any) -> None:
    """Add the command."""
    score = command(
        commands, "score", _score, "score captions by each reward of a mix; key=value overrides as in training"
    )
    score.add_argument(
        "captions",
        type=Path,
        help="jsonl rows: sample_id, caption, image, references, …; image and references can come from the data of --config",
    )
    score.add_argument(
        "--config", type=Path, required=True, help="YAML with `mix:` (and `data:`), such as recipes/configs/lab.yaml"
    )
    score.set_defaults(takes_overrides=True)


def _score(options: argparse.Namespace) -> None:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig

    print(score_captions(options.captions, load_config(GRPOConfig, options.config, options.overrides)))


def score_captions(path: Path, config: GRPOConfig) -> str:
    """Return a table with the scores of captions by each term of the mix: mean, spread and abstentions with reasons.

    The function loads `config.data` only if a row lacks its image or its references.

    Args:
        path: A jsonl file of captions.
        config: The configuration, whose `mix` and `data` are used.

    Raises:
        ConfigError: The mix is empty.
        CaptionsError: The file can't be used, or has captions of unknown images.
    """
    import torch

    from rlcap.cli.tables import score_table
    from rlcap.config.schema import mix_entries
    from rlcap.data.captions import read_captions, to_batch
    from rlcap.data.source import load_splits
    from rlcap.errors import CaptionsError
    from rlcap.reward.mix import RewardMix
    from rlcap.types import Sample

    rows = read_captions(path)
    known: dict[str, Sample] = {}
    if not all(row.get("image") and row.get("references") for row in rows):
        known = {sample.id: sample for samples in load_splits(config.data)[0].values() for sample in samples}
        if unknown := [row["sample_id"] for row in rows if str(row["sample_id"]) not in known and not row.get("image")]:
            raise CaptionsError(
                f"{path}: the images of {len(unknown)} captions are not in the configured data, such as {unknown[0]!r}; add "
                "image and references to their rows, or choose another --config"
            )
    batch = to_batch(rows, known)
    gallery = {sample.image for sample in (*known.values(), *batch.samples) if sample.image}
    mix = RewardMix.from_config(
        mix_entries(config.mix),
        context={"device": "cuda" if torch.cuda.is_available() else "cpu", "gallery": sorted(gallery)},
        max_abstain=1.0,  # abstentions don't stop the command, because the table shows them
    )
    return score_table(mix.score(batch))
