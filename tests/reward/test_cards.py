"""Every reward has a complete card, and the tables made from cards."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.cli import main as cli
from rlcap.config.imports import resolve
from rlcap.errors import CardError, ConfigError
from rlcap.reward import cards as cards_module
from rlcap.reward.cards import KEYS, cards, find, markdown, missing_lines, parse, read, table

WHOLE = "Loud: does the caption shout?\n\n" + "\n".join(f"{key:<10}{key} of it; and more\n{'':10}of it" for key in KEYS)


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_every_reward_file_has_a_complete_card(card):
    assert all(card.fields.values())
    assert tuple(card.fields) == tuple(KEYS)
    assert len(card.short("range")) <= 60


@pytest.mark.parametrize("card", cards(), ids=lambda card: card.name)
def test_a_card_knows_its_classes(card):
    from rlcap.reward.base import Reward

    defined = [
        name
        for name, value in vars(sys.modules[resolve(card.paths[0]).__module__]).items()
        if isinstance(value, type)
        and issubclass(value, Reward)
        and value.__module__ in (card.module, f"{card.module}.reward")
    ]
    assert list(card.classes) == defined
    assert any(resolve(path).name == card.name for path in card.paths)


def test_a_card_is_shown_in_full_and_in_short():
    card = parse(WHOLE, "mine.loud", ["Loud"])
    assert card.question == "does the caption shout?"
    assert card.short("range") == "range of it"
    assert card.fields["hack"] == "hack of it; and more\nof it"
    assert card.text().endswith(WHOLE.partition("\n\n")[2])
    assert "mine.loud:Loud" in card.text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Loud: does the caption shout?", "Loud"), "must begin with `Name: one sentence.`"),
        (("hack      ", "hacks     "), "did you mean 'hack'"),
        (("cost      ", "needs     "), "the key needs twice"),
        (("guards    guards of it; and more", "          more"), "lacks guards"),
        (("\n\n", "\n\nwords that no key has\n"), "unknown key of a card 'words that'"),
        (("measures  measures", "range     measures"), "the key range twice"),
        (("\nhack  ", "\n\nhack  "), "one blank line"),
    ],
)
def test_an_incomplete_card_is_reported(change, message):
    with pytest.raises(CardError, match=message):
        parse(WHOLE.replace(*change), "mine.loud")


def test_keys_stand_in_order():
    rows = WHOLE.split("\n\n")[1].replace("measures  ", "cost      ", 1).split("\n")
    swapped = [row.replace("cost      cost", "measures  cost") for row in rows]
    with pytest.raises(CardError, match="in the order measures, range"):
        parse("Loud: a shout.\n\n" + "\n".join(swapped), "mine.loud")


def test_a_file_without_a_reward_or_a_card_is_reported(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("x = 1\n")
    with pytest.raises(CardError, match="no class derived from Reward"):
        read(path, "loud")
    path.write_text("class Loud(Reward):\n    pass\n")
    with pytest.raises(CardError, match="loud: a card must begin with"):
        read(path, "loud")
    path.write_text(
        f'"""{WHOLE}"""\nclass Loud(Reward):\n    pass\nclass Louder(Loud):\n    pass\nclass Other:\n    pass\n'
    )
    assert read(path, "mine.loud").paths == ("mine.loud:Loud", "mine.loud:Louder")


def test_tables_name_every_reward():
    found = cards()
    assert len(table(found).splitlines()) == len(found) + 1
    rows = markdown(found).splitlines()
    assert len(rows) == len(found) + 2
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    for card in found:
        for path in card.paths:
            assert f"`{path}`" in markdown(found)


def test_a_stale_table_is_found():
    found = cards()
    assert missing_lines(f"# rlcap\n{markdown(found)}\nmore", found) == []
    assert len(missing_lines(markdown(found[1:]), found)) == 1


def test_find_takes_any_of_its_names():
    assert find("length") == find("rlcap.rewards.length") == find("rlcap.rewards.length:Length")
    with pytest.raises(ConfigError, match="did you mean 'length'"):
        find("lenght")
    with pytest.raises(ConfigError, match="no package 'nowhere'"):
        cards("nowhere")


def test_the_command_lists_and_prints(capsys):
    assert cli.main(["rewards"]) == 0
    assert "repetition" in capsys.readouterr().out
    assert cli.main(["rewards", "length"]) == 0
    told = capsys.readouterr().out
    assert "rlcap.rewards.length:Length" in told
    assert all(f"\n{key}" in told for key in KEYS)
    assert cli.main(["rewards", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == markdown(cards())
    assert cli.main(["rewards", "lenght"]) == 2
    assert "did you mean 'length'" in capsys.readouterr().err


def test_listing_rewards_imports_none_of_them():
    code = "import sys; from rlcap.cli import main as cli; cli.main(['rewards']); print([m for m in ('torch', 'rlcap.rewards.length') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == "[]"
    assert cards_module.__doc__


def test_the_documentation_shows_the_cards_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "rewards" / "index.md").read_text(encoding="utf-8")
    assert missing_lines(page, cards()) == []
