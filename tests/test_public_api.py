"""The public names: they are all there, are loaded late, and a run's captioner says what `rlcap caption` says."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml

import rlcap
from rlcap.cli import main as cli
from rlcap.errors import InputError
from rlcap.lab.assets import ASSETS
from rlcap.lab.source import load_split


@pytest.mark.parametrize("name", rlcap.__all__)
def test_every_public_name_can_be_loaded(name):
    assert getattr(rlcap, name).__name__ == name
    assert name in dir(rlcap)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Rewards'"):
        rlcap.Rewards  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, rlcap; print([m for m in ('torch', 'pydantic', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert rlcap.__version__ == version("rlcap")


def test_a_runs_captioner_says_what_the_command_says(tmp_path, capsys):
    shutil.copytree(ASSETS / "adapter", tmp_path / "adapter")
    values = {
        "model": {"base": "lab:captioner"},
        "data": {"source": "rlcap.lab.source:LabSource"},
        "generation": {"max_new_tokens": 12},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    images = [sample.image for sample in load_split("test", 2)]
    said = rlcap.load_captioner(tmp_path).caption(images)
    assert all(said)
    assert cli.main(["caption", *images, "--run", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(caption in out for caption in said)
    with pytest.raises(InputError, match="is a run with its own adapter"):
        rlcap.load_captioner(tmp_path, "lab:adapter")
    shutil.rmtree(tmp_path / "adapter")
    with pytest.raises(InputError, match="has no adapter, because the run did not end"):
        rlcap.load_captioner(tmp_path)


def test_a_runs_captioner_obeys_a_control_by_the_words_of_the_run(tmp_path, capsys):
    shutil.copytree(ASSETS / "adapter", tmp_path / "adapter")
    values = {
        "model": {"base": "lab:captioner"},
        "data": {
            "source": "rlcap.lab.source:LabSource",
            "control": {"level": 2},
            "control_phrases": {"length": {10: "small .", 40: "large ."}},
        },
        "generation": {"max_new_tokens": 12, "controls": {"level": {1: 0.5, None: 0.5}}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (image,) = (sample.image for sample in load_split("test", 1))
    captioner = rlcap.load_captioner(tmp_path)
    assert captioner.control == rlcap.Control(level=2)
    assert captioner.instruction.phrases["length"] == {10: "small .", 40: "large ."}
    (said,) = captioner.caption([image], control=rlcap.Control(length=38))
    out = tmp_path / "out.jsonl"
    assert cli.main(["caption", image, "--run", str(tmp_path), "--control", "length=38", "--out", str(out)]) == 0
    row = json.loads(out.read_text())
    assert row["caption"] == said
    assert row["control"] == {"length": 38, "level": 2}
