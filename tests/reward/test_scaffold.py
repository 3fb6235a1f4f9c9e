"""A reward of your own: what `rlcap rewards new` writes works as it stands, wherever it lies."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlcap.cli import main as cli
from rlcap.config.imports import resolve
from rlcap.config.loading import load_config
from rlcap.config.schema import GRPOConfig, mix_entries
from rlcap.errors import ConfigError
from rlcap.reward import cards as card
from rlcap.reward import scaffold
from rlcap.reward.base import Reward


def test_file_and_test_pass_where_they_are_written(tmp_path, capsys):
    assert cli.main(["rewards", "new", "word_length", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.split()[:2] == [str(tmp_path / "word_length.py"), str(tmp_path / "test_word_length.py")]
    assert f"rlcap probe {tmp_path / 'word_length.py'}:WordLength" in told
    assert cli.main(["rewards", str(tmp_path / "word_length.py")]) == 0
    assert "fails     not measured; run rlcap probe word_length.py:WordLength" in capsys.readouterr().out
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_word_length.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
    read = card.read(tmp_path / "word_length.py", "word_length")
    assert read.classes == ("WordLength",)
    assert (read.short("fails"), read.fails) == ("not measured", ())


def test_the_commands_that_follow_can_be_copied(tmp_path, monkeypatch):
    reward, test = scaffold.write(["word_length"], tmp_path)
    (overrides,) = [
        shlex.split(line, comments=True)[3]
        for line in scaffold.next_steps(reward, test).splitlines()
        if "rlcap train" in line
    ]
    (term,) = mix_entries(load_config(GRPOConfig, None, [overrides]).mix).values()
    assert (term["reward"], term["weight"]) == (f"{reward}:WordLength", 0.5)
    monkeypatch.setattr(scaffold, "is_package", lambda folder: True)
    inside = scaffold.next_steps(Path("rewards/brief.py"), Path("tests/rewards/test_brief.py"))
    assert "rlcap probe rlcap.rewards.brief:Brief" in inside
    assert "add a line to MADE" in inside


def test_beside_the_package_it_joins_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(scaffold, "is_package", lambda folder: True)
    file, test = scaffold.write(["brief"], tmp_path)
    assert (file, test) == (tmp_path / "rewards/brief.py", tmp_path / "tests/rewards/test_brief.py")
    assert "from rlcap.rewards.brief import Brief" in test.read_text()
    with pytest.raises(ConfigError, match="exists: choose another"):
        scaffold.write(["brief"], tmp_path)


def test_the_package_is_known_by_its_place(tmp_path):
    from rlcap import rewards

    assert scaffold.is_package(Path(next(iter(rewards.__path__))))
    assert not scaffold.is_package(tmp_path / "rewards")


@pytest.mark.parametrize("name", ["Big", "two words", "class", "_hidden", "9lives"])
def test_names_that_no_module_can_have(tmp_path, name):
    with pytest.raises(ConfigError, match="can't be a reward's name"):
        scaffold.write([name], tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_name_is_wanted(tmp_path):
    with pytest.raises(ConfigError, match="one name, got 0"):
        scaffold.write([], tmp_path)


def test_a_reward_is_found_in_the_working_folder_and_by_its_files_path(tmp_path, monkeypatch):
    scaffold.write(["found_here"], tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert issubclass(resolve("found_here:FoundHere", Reward), Reward)
    monkeypatch.chdir(os.sep)
    path = f"{tmp_path / 'found_here.py'}:FoundHere"
    assert resolve(path, Reward) is resolve(path, Reward)
    with pytest.raises(ConfigError, match="did you mean 'FoundHere'"):
        resolve(f"{tmp_path / 'found_here.py'}:FoundHer", Reward)
    with pytest.raises(ConfigError, match="does not exist: name a Python file"):
        resolve(f"{tmp_path / 'nothing.py'}:A", Reward)
