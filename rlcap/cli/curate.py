"""`rlcap curate`: writes a data set of better captions, or of captions that say how good they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli import curate_loop, curate_steps
from rlcap.cli.arguments import command, group, positive
from rlcap.cli.curate_data import add_mix, add_text
from rlcap.errors import InputError

if TYPE_CHECKING:
    from rlcap.curate.formats import CountAssertions
    from rlcap.types import RewardBatch

LEVELS = """\
The scores are kept in OUT.scores.jsonl. The same command continues after an interruption, and another number of levels needs no new scores.
SFT on the rows learns captions of all levels together with their level; afterwards one asks for the best:

  rlcap curate levels data.source=photos.jsonl --reward clip_score mix.clip_score.params.clip=ViT-B-32 \\
      mix.clip_score.params.pretrained=laion2b_s34b_b79k --levels 8 --out levelled.jsonl
  rlcap train sft --config my_sft.yaml data.source=levelled.jsonl --output_dir runs/levelled
  rlcap caption photo.jpg --run runs/levelled --control level=8
"""

FORMATS = """\
A row has its captions in the column `formats` ({"SSC": …, "DSC": …, "DSC+": …, "AFC": …}), or its paragraph with control.format. ANA is the
average number of assertions in a caption. SFT learns a mixture with train.target=formats:

  rlcap curate formats data.source=rows.jsonl --judge openai:gpt-4o-mini --mix SSC=0.4,DSC=0.6 --mix SSC=0.5,AFC=0.5
  rlcap train sft --config my_sft.yaml train.target=formats 'train.formats={SSC: 0.4, DSC: 0.6}'
"""


def add(commands: Any) -> None:
    """Add the command and its actions."""
    curate = group(
        commands,
        "curate",
        "score, filter, mix and re-rank captions, assign quality levels, improve a captioner in rounds",
    )
    levels = command(
        curate,
        "levels",
        _levels,
        "assign quality levels to the captions of a data set by the quantiles of a reward or a mix; key=value overrides",
        LEVELS,
    )
    add_mix(levels)
    levels.add_argument(
        "--levels", type=_at_least_two, default=8, help="number of levels (default: %(default)s, as in NoC)"
    )
    levels.add_argument(
        "--bins",
        choices=("quantile", "uniform"),
        default="quantile",
        help="levels of equally many rows, or of equally wide ranges of the score (default: %(default)s)",
    )
    add_text(levels)
    levels.add_argument("--out", type=Path, required=True, help="jsonl file for the rows with control.level")
    curate_steps.add(curate)
    curate_loop.add(curate)
    formats = command(
        curate,
        "formats",
        _formats,
        "measure the caption formats of a data set, and what mixtures of them come to; data.key=value overrides",
        FORMATS,
    )
    formats.add_argument(
        "--judge",
        help="judge that takes captions apart into assertions, such as openai:gpt-4o-mini, for the column ANA",
    )
    formats.add_argument(
        "--limit",
        type=positive,
        default=200,
        help="captions of each format that the judge is asked about (default: %(default)s)",
    )
    formats.add_argument(
        "--mix",
        action="append",
        default=[],
        metavar="SSC=0.4,DSC=0.6",
        help="a mixing ratio, for a line with its expected words and assertions; may be given several times",
    )
    formats.set_defaults(takes_overrides=True)


def _levels(options: argparse.Namespace) -> None:
    from rlcap.cli.curate_data import open_data
    from rlcap.curate.levels import assign_levels

    data = open_data(options)
    mix = data.load_mix()
    log = data.score_log(options.out, options.text)
    summary = assign_levels(
        data.rows, mix, options.out, log, levels=options.levels, bins=options.bins, text=options.text
    )
    summary.skipped = data.skipped
    print(f"{summary.text()}\n{options.out}: {sum(level.rows for level in summary.levels) + summary.without:,} rows")


def _formats(options: argparse.Namespace) -> None:
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.curate.formats import tabulate_formats
    from rlcap.data.source import stream_rows

    mixtures = [_read_mixture(text) for text in options.mix]
    config = load_config(GRPOConfig, None, options.overrides)
    count = _assertion_counter(options.judge) if options.judge else None
    print(tabulate_formats(stream_rows(config.data, check_images=False), count, options.limit).text(mixtures))


def _assertion_counter(judge: str) -> CountAssertions:
    """Return what counts the assertions of captions by the judge of the reward `claims`."""
    from rlcap.reward.mix import RewardMix
    from rlcap.rewards.claims.parsing import list_facts, parse_claims

    mix = RewardMix.from_config({"claims": {"reward": "claims", "params": {"judge": judge}}}, max_abstain=1.0)

    def count(batch: RewardBatch) -> list[int | None]:
        scores = mix.score(batch).scores["claims"]
        return [
            None if score.abstained or score.note is None else len(parse_claims(score.note, len(list_facts(sample))))
            for score, sample in zip(scores, batch.samples, strict=True)
        ]

    return count


def _read_mixture(text: str) -> dict[str, float]:
    """Return format → share of a word such as SSC=0.4,DSC=0.6.

    Raises:
        InputError: The word has another form, or a format is unknown.
    """
    from rlcap.config.controls import check_format_shares

    try:
        shares = {name: float(share) for name, share in (part.split("=", 1) for part in text.split(","))}
        return check_format_shares(shares)
    except ValueError as error:
        raise InputError(f"--mix {text}: write FORMAT=SHARE,FORMAT=SHARE, such as SSC=0.4,DSC=0.6 ({error})") from error


def _at_least_two(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"must be 2 or more, got {number}")
    return number
