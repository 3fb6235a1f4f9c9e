"""The table of benchmarks/families.py: its columns name tests that exist, and its selection finds one family's tests."""

import ast
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from families import COLUMNS, FILES, absent_tests, cell, outcomes, selection

from rlcap.policy.families.registry import FAMILIES

ROOT = Path(__file__).parents[2]


def test_columns_name_tests_that_exist():
    known = {
        node.name
        for file in FILES
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    named = {name.removesuffix("-grpo").removesuffix("-ppo") for names in COLUMNS.values() for name in names}
    assert named <= known


def test_a_test_that_did_not_run_is_named(tmp_path):
    report = tmp_path / "report.xml"
    cases = [
        '<testcase name="test_shared_and_plain_paths_agree[llava]"/>',
        '<testcase name="test_reinforcement_works[llava-grpo]"><skipped/></testcase>',
    ]
    report.write_text(f"<testsuite>{''.join(cases)}</testsuite>")
    found = outcomes(report)
    assert found == {
        "llava": {"test_shared_and_plain_paths_agree": "passed", "test_reinforcement_works-grpo": "skipped"}
    }
    missing = absent_tests(found)
    assert "llava: test_shared_and_plain_paths_agree_in_bfloat16" in missing
    assert "llava: test_shared_and_plain_paths_agree" not in missing
    assert cell(found["llava"], ("test_shared_and_plain_paths_agree", "test_reinforcement_works-grpo")) == "passed"
    with pytest.raises(KeyError):
        cell(found["llava"], COLUMNS["bf16"])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_selection_finds_one_family(family):
    from _pytest.mark.expression import Expression

    def matches(expression, name):
        return Expression.compile(expression).evaluate(lambda word, /, **_: word in name)

    for other in FAMILIES:
        for name in (f"test_a[{other}]", f"test_a[{other}-grpo]", f"test_a[{other}-ppo]"):
            assert matches(selection(family), name) == (other == family)
