"""`rlcap doctor --reproduce` compares the main job's first steps with a record, and says what a difference means."""

import json

import pytest

from rlcap.cli.main import main
from rlcap.cli.reproduce import PACKAGES, Reproduction, record_file

FOUND = {"sha256": "a" * 64, "processor": "X", "torch": "2.14.1"}


def test_the_same_bytes():
    assert Reproduction(FOUND, FOUND).is_identical
    assert "bit for bit" in Reproduction(FOUND, FOUND).text()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"processor": "Y", "torch": "2.15.0"}, "processor X instead of Y; torch 2.14.1 instead of 2.15.0"),
        ({}, "another library of this machine differs"),
    ],
)
def test_another_adapter_is_expected_on_another_machine(changes, cause):
    result = Reproduction(FOUND, {**FOUND, "sha256": "b" * 64, **changes})
    assert not result.is_identical
    assert "That is expected on other hardware" in result.text()
    assert cause in result.text()


def test_the_record_is_part_of_the_package():
    record = json.loads(record_file().read_text(encoding="utf-8"))
    assert len(record["sha256"]) == 64
    assert set(PACKAGES) < set(record)


@pytest.mark.slow
def test_the_command_runs_the_main_job(capsys):
    assert main(["doctor", "--reproduce", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["found"]["sha256"]) == 64
    assert isinstance(result["identical"], bool)
