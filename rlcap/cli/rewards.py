"""`rlcap rewards | probe | score`: what there is, what it can be fooled by, and what it says of captions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rlcap.cli.arguments import command, positive, share

EXAMPLES = """\
examples:
  rlcap rewards                       what there is, and what each asks of a caption
  rlcap rewards hallucination         its card: formula, range, source, known hack, what guards it
  rlcap rewards new brevity           rewards/brevity.py with a card to fill in, and tests/rewards/test_brevity.py
"""


def add(commands: Any) -> None:
    rewards = command(commands, "rewards", _rewards, "the rewards that there are, one reward's card, or a new reward")
    rewards.epilog, rewards.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    rewards.add_argument("name", nargs="*", metavar="NAME", help="print this one's whole card; `new NAME` starts one")
    rewards.add_argument(
        "--out", type=Path, default=Path(), help="folder that `new` writes below (default: where you are)"
    )
    rewards.add_argument("--markdown", action="store_true", help="the table as Markdown, as the README has it")

    probe = command(
        commands,
        "probe",
        _probe,
        "which worse captions does a mix like better; key=value overrides; exit code 1 if any",
    )
    probe.add_argument(
        "target",
        help="YAML with `mix:` (and `data:`), or one reward: rlcap.rewards.length:Length, its parameters as "
        "mix.length.params.low=0.8",
    )
    probe.add_argument("--count", type=positive, default=42, help="images, of 16 captions each (default: %(default)s)")
    probe.add_argument("--split", default="test", help="split that the images are taken from (default: %(default)s)")
    probe.add_argument(
        "--threshold", type=share, default=0.05, help="share of images that a probe may win (default: %(default)s)"
    )
    probe.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    probe.set_defaults(takes_overrides=True)

    score = command(
        commands, "score", _score, "what each reward of a mix says of captions; key=value overrides as in training"
    )
    score.add_argument(
        "captions", type=Path, help="jsonl rows: sample_id, caption, and image, references, … or --config's data"
    )
    score.add_argument(
        "--config", type=Path, required=True, help="YAML with `mix:` (and `data:`), such as recipes/configs/lab.yaml"
    )
    score.set_defaults(takes_overrides=True)


def _rewards(options: argparse.Namespace) -> None:
    from rlcap.reward import cards as card

    if options.name[:1] == ["new"]:
        from rlcap.reward.scaffold import write

        for path in write(options.name[1:], options.out):
            print(path)
    elif options.name:
        print("\n\n".join(card.find(name).text() for name in options.name))
    else:
        print((card.markdown if options.markdown else card.table)(card.cards()))


def _probe(options: argparse.Namespace) -> int:
    from rlcap.config.checks import check
    from rlcap.config.schema import GRPOConfig, load_config
    from rlcap.probing.probe import probe, told, write_json

    if ":" in options.target:
        name = options.target.partition(":")[0].rpartition(".")[2]
        config = load_config(GRPOConfig, None, [f"mix.{name}.reward={options.target}", *options.overrides])
    else:
        config = load_config(GRPOConfig, options.target, options.overrides)
    check(config)
    found = probe(config, options.count, options.split)
    print(told(found, options.threshold))
    if options.json:
        write_json(found, options.threshold, options.json)
    return 1 if found.failed(options.threshold) else 0


def _score(options: argparse.Namespace) -> None:
    from rlcap.cli.captions_file import score_captions
    from rlcap.config.checks import check
    from rlcap.config.schema import GRPOConfig, load_config

    config = load_config(GRPOConfig, options.config, options.overrides)
    check(config)
    print(score_captions(options.captions, config))
