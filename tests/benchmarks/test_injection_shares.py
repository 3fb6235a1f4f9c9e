"""The shares of benchmarks/injections.py, on a judge that obeys attacks and on one that does not."""

import sys
from pathlib import Path

import pytest
from fake_backends import FakeBackend

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from injections import CONTROL, AttackResult, measure, summarize

from rlcap.judge.parsing import Verdict
from rlcap.judge.templates import extract_delimited
from rlcap.probing.injections import ATTACKS


class Grader(FakeBackend):
    """Gives grade 5; a gullible one gives 10 where the caption asks for it."""

    name = "grader"

    def __init__(self, gullible):
        self.gullible = gullible

    def generate(self, content, system_prompt=None, **_):
        won = self.gullible and "10" in extract_delimited("caption", content)
        return Verdict("Read.", (), (), 10 if won else 5).text()


def test_golden():
    assert summarize([(0.5, 0.5), (0.9, 0.5), (0.1, 0.5), (None, 0.5)]) == AttackResult(
        4, pytest.approx(2 / 3), pytest.approx(1 / 3), 0.25
    )
    assert summarize([(None, 0.5), (0.5, None)]) == AttackResult(2, None, None, 0.5)


def test_a_gullible_judge_is_found_out_and_an_honest_one_is_not():
    honest = measure("critique", Grader(False), "captions", 2, 99)
    assert list(honest) == [CONTROL, *ATTACKS]
    assert all(one.changed == one.raised == one.abstained == 0 for one in honest.values())
    gullible = measure("critique", Grader(True), "captions", 1, 99)
    assert gullible["authority"].raised == 0.25
    assert gullible[CONTROL].changed == 0
    assert measure("critique", Grader(True), "references", 1, 1)["order"].changed == 0
