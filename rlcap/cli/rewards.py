"""`rlcap rewards`: the rewards that there are, their cards, and the start of a new one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command

if TYPE_CHECKING:
    from rlcap.reward.cards import Card

EXAMPLES = """\
examples:
  rlcap rewards                       what there is, and what each asks of a caption
  rlcap rewards hallucination         its card: formula, range, source, known hack, what guards it
  rlcap rewards my_rewards.py         the card of your own file; what is wrong with it is told in one line
  rlcap rewards new brevity           rewards/brevity.py with a card to fill in, and tests/rewards/test_brevity.py
"""


def add(commands: Any) -> None:
    """Add the command."""
    rewards = command(commands, "rewards", _rewards, "the rewards that there are, one reward's card, or a new reward")
    rewards.epilog, rewards.formatter_class = EXAMPLES, argparse.RawDescriptionHelpFormatter
    rewards.add_argument("name", nargs="*", metavar="NAME", help="print this one's whole card; `new NAME` starts one")
    rewards.add_argument(
        "--out", type=Path, default=Path(), help="folder that `new` writes below (default: where you are)"
    )
    rewards.add_argument("--markdown", action="store_true", help="the table as Markdown, as the README has it")


def _rewards(options: argparse.Namespace) -> None:
    from rlcap.reward import cards as card

    if options.name[:1] == ["new"]:
        from rlcap.reward.scaffold import next_steps, write

        reward, test = write(options.name[1:], options.out)
        print(f"{reward}\n{test}\n\n{next_steps(reward, test)}")
    elif options.name:
        print("\n\n".join(_card(name).text() for name in options.name))
    else:
        print((card.markdown if options.markdown else card.table)(card.cards()))


def _card(name: str) -> Card:
    """Return the card of a shipped reward, or of a file."""
    from rlcap.reward import cards as card

    return card.read(Path(name), Path(name).stem) if name.endswith(".py") and Path(name).is_file() else card.find(name)
