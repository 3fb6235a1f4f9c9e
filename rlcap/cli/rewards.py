"""`rlcap rewards`: lists all rewards, shows their cards, and starts a new reward."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcap.cli.arguments import command

if TYPE_CHECKING:
    from rlcap.reward.cards import Card

EXAMPLES = """\
examples:
  rlcap rewards                       list all rewards, and the question that each one answers
  rlcap rewards hallucination         show a card: formula, range, source, known hack, protection
  rlcap rewards my_rewards.py         show the card of your own file, or what is wrong with it
  rlcap rewards new brevity           write brevity.py with a card to complete, and its test: in a clone or a project below rewards/
"""


def add(commands: Any) -> None:
    """Add the command."""
    rewards = command(
        commands, "rewards", _rewards, "list all rewards, show the card of a reward, or start a new reward", EXAMPLES
    )
    rewards.add_argument(
        "name", nargs="*", metavar="NAME", help="reward whose card to show; `new NAME` starts a new one"
    )
    rewards.add_argument(
        "--out", type=Path, default=Path(), help="folder in which `new` writes (default: the current folder)"
    )
    rewards.add_argument("--markdown", action="store_true", help="print the table as Markdown, for the README")


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
    """Return the card of a shipped reward, or of a file, which may be written as in a configuration: `file.py:Class`."""
    from rlcap.reward import cards as card

    file = Path(name.partition(".py:")[0] + ".py") if ".py:" in name else Path(name)
    return card.read(file, file.stem) if file.suffix == ".py" and file.is_file() else card.find(name)
