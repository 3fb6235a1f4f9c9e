"""`rlcap score`: scores existing captions by each reward of a mix."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command

if TYPE_CHECKING:
    from rlcap.config.schema import GRPOConfig
    from rlcap.reward.mix import MixScores

EPILOG = """\
A row of the captions file holds sample_id and caption. What the rewards need besides comes from one of two places:

  from the row itself      {"sample_id": "1", "caption": "A dog.", "image": "1.jpg", "references": ["A dog runs."]}
  from the data            --config with `data:`, or data.source=photos.jsonl; rows are matched by sample_id and id

Relative image paths in the rows start from the folder of the captions file, or from data.image_root. Of a data file every row is read;
nothing is held out.

examples:
  rlcap score captions.jsonl --config configs/mine.yaml
  rlcap score captions.jsonl --config configs/mine.yaml data.source=photos.jsonl
  rlcap score captions.jsonl --config mix.yaml "mix.critique.params.judge=my_backend.py:LocalServer"

The exit code is 1 if a term abstains on every caption.
"""


def add(commands: Any) -> None:
    """Add the command."""
    score = command(
        commands, "score", _score, "score captions by each reward of a mix; key=value overrides as in training", EPILOG
    )
    score.add_argument("captions", type=Path, help="a .jsonl file of captions, or COCO's results as .json; see below")
    score.add_argument(
        "--config", type=Path, required=True, help="YAML with `mix:` (and `data:`), such as recipes/configs/lab.yaml"
    )
    score.add_argument("--out", type=Path, metavar="FILE", help="write each caption with its scores here (jsonl)")
    score.set_defaults(takes_overrides=True)


def _score(options: argparse.Namespace) -> int:
    from rlcap.cli.tables import score_table
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.io.atomic import write_text

    found = score_captions(options.captions, load_config(GRPOConfig, options.config, options.overrides))
    if options.out:
        write_text(
            options.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(found, options)), "scores"
        )
    print(score_table(found))
    silent = [name for name in found.names if all(score.abstained for score in found.scores[name])]
    for name in silent:
        reason = found.scores[name][0].reason
        print(f"rlcap: warning: {name} abstains on every caption, first because: {reason}", file=sys.stderr)
    return 1 if silent else 0


def _rows(found: MixScores, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield each caption with the score of every term: its value, or the reason of its abstention, and the note."""
    from rlcap.data.captions import read_captions

    for i, row in enumerate(read_captions(options.captions)):
        scores = {name: found.scores[name][i] for name in found.names}
        yield {"sample_id": row["sample_id"], "caption": row["caption"]} | {
            "scores": {name: score.value for name, score in scores.items()},
            "abstained": {name: score.reason for name, score in scores.items() if score.abstained},
            "notes": {name: score.note for name, score in scores.items() if score.note},
        }


def score_captions(path: Path, config: GRPOConfig) -> MixScores:
    """Return what each term of `config.mix` says of the captions of a file.

    The function loads `config.data` only if a row lacks its image or its references.

    Args:
        path: A jsonl file of captions.
        config: The configuration, whose `mix` and `data` are used.

    Raises:
        ConfigError: for an empty mix, or where the data is needed and no source is named.
        CaptionsError: for a file that can't be used, or captions of unknown images.
    """
    from rlcap.config.schema import mix_entries
    from rlcap.data.captions import name_as_in, read_captions, to_batch
    from rlcap.data.source import NO_SOURCE, instruction_for, load_all
    from rlcap.errors import CaptionsError, ConfigError
    from rlcap.reward.context import reward_context
    from rlcap.reward.mix import RewardMix, resolve_reward
    from rlcap.types import Sample

    rows = read_captions(path, config.data.image_root)
    entries = mix_entries(config.mix)
    needs = frozenset().union(*(resolve_reward(str(entry["reward"])).needs for entry in entries.values()))
    missing = sorted(key for key in ("image", "references") if key in needs and not all(row.get(key) for row in rows))
    known: dict[str, Sample] = {}
    if missing and not config.data.source:
        raise ConfigError(f"{NO_SOURCE}, or put {' and '.join(missing)} into the rows of the captions file")
    if config.data.source and not all(row.get("image") and row.get("references") for row in rows):
        known = {sample.id: sample for sample in load_all(config.data)}
        rows = name_as_in(rows, known)
        if unknown := [row["sample_id"] for row in rows if str(row["sample_id"]) not in known and not row.get("image")]:
            raise CaptionsError(
                f"{path}: the images of {len(unknown)} captions are not in the configured data, such as {unknown[0]!r}; add "
                "image and references to their rows, or choose another --config"
            )
    batch = to_batch(rows, known)
    mix = RewardMix.from_config(
        entries,
        context=reward_context(
            (sample.image for sample in (*known.values(), *batch.samples)),
            base=config.model.base,
            instruction=instruction_for(config.data) if config.data.source else config.data.instruction or "",
        ),
        max_abstain=1.0,  # abstentions don't stop the command, because the table shows them
    )
    return mix.score(batch)
