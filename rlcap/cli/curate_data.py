"""The data set and the reward mix that the commands of `rlcap curate` read."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.errors import InputError

if TYPE_CHECKING:
    from rlcap.config.schema import GRPOConfig
    from rlcap.curate.scoring import ScoreLog
    from rlcap.reward.mix import RewardMix
    from rlcap.types import Sample


def add_mix(parser: argparse.ArgumentParser) -> None:
    """Add the options that name data and mix, and let the command take overrides."""
    parser.add_argument("--config", type=Path, help="YAML with `data:` and `mix:`, as for training")
    parser.add_argument(
        "--reward",
        metavar="NAME",
        help="a single reward in place of the mix; mix.NAME.params.KEY=VALUE sets its parameters",
    )
    parser.set_defaults(takes_overrides=True)


def add_text(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which captions of a row are scored."""
    parser.add_argument(
        "--text",
        choices=("paragraph", "references"),
        default="paragraph",
        help="the captions that are scored; the scores of several references are averaged (default: %(default)s)",
    )


@dataclass(slots=True)
class CurateData:
    """The configured data set and its mix."""

    config: GRPOConfig
    skips: list[Any] = field(default_factory=list)
    """Bad rows of the last reading."""

    @property
    def source(self) -> str:
        """The name of the data set."""
        return str(self.config.data.source)

    @property
    def skipped(self) -> dict[str, int]:
        """Reason → bad rows that were skipped."""
        return dict(Counter(skip.reason for skip in self.skips))

    def rows(self) -> Iterator[Sample]:
        """Yield the rows, from the beginning at each call."""
        from rlcap.data.source import stream_rows

        self.skips.clear()
        yield from stream_rows(self.config.data, skips=self.skips)

    def load_mix(self) -> RewardMix:
        """Load the rewards, and print their names."""
        from rlcap.config.schema import mix_entries
        from rlcap.data.source import load_instruction
        from rlcap.reward.context import reward_context
        from rlcap.reward.mix import RewardMix

        mix = RewardMix.from_config(
            mix_entries(self.config.mix),
            # Rows are streamed, so that there is no gallery.
            context=reward_context(
                (), base=self.config.model.base, instruction=load_instruction(self.config.data).text
            ),
            max_abstain=1.0,  # the summary counts the rows without a score
        )
        print(mix.describe())
        return mix

    def settings(self, **others: Any) -> dict[str, Any]:
        """Return what determines scores, as JSON values without secrets."""
        from rlcap.config.redaction import redact_values
        from rlcap.config.schema import mix_entries

        return {"source": self.config.data.source, **others, "mix": redact_values(mix_entries(self.config.mix))}

    def score_log(self, out: Path, text: str) -> ScoreLog:
        """Return the log of scores beside a file of rows."""
        from rlcap.curate.scoring import ScoreLog

        return ScoreLog(out.with_name(f"{out.name}.scores.jsonl"), self.settings(text=text))


def open_data(options: argparse.Namespace) -> CurateData:
    """Return the configured data, in which the reward of --reward is the mix.

    Raises:
        ConfigError: No source is named.
        InputError: Neither a reward nor a mix is named.
    """
    from rlcap.config.loading import load_config
    from rlcap.config.schema import GRPOConfig
    from rlcap.data.source import NO_SOURCE
    from rlcap.errors import ConfigError

    overrides = list(options.overrides)
    if options.reward:
        overrides.insert(0, f"mix.{options.reward}.reward={options.reward}")
    config = load_config(GRPOConfig, options.config, overrides)
    if options.reward:
        config = config.model_copy(update={"mix": {options.reward: config.mix[options.reward]}})
    if not any(config.mix.values()):
        raise InputError("no reward is named: add --reward NAME, or --config with a mix")
    if not config.data.source:
        raise ConfigError(NO_SOURCE)
    return CurateData(config)
