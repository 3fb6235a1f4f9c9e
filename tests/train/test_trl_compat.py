"""The private names of other packages on which the code relies are unchanged."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from rlcap.train.dpo import DPOTrainer
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.ppo import PPOTrainer
from rlcap.train.sft import SFTTrainer
from rlcap.train.trl_compat import INTERNALS, describe_change

PACKAGE = Path(__file__).parents[2] / "rlcap"

ELSEWHERE = {"nn.modules.dropout._DropoutNd", "response._hidden_params"}
"""Private names of packages that the table leaves out: torch's base class of dropout, and LiteLLM's price of a reply."""


@pytest.mark.parametrize("entry", INTERNALS, ids=lambda entry: f"{entry.owner.split(':')[1]}.{entry.name}")
def test_private_names_are_as_recorded(entry):
    change = describe_change(entry)
    assert change is None, change


def entry_named(name):
    return next(entry for entry in INTERNALS if entry.name == name)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("_save", {"digest": "0" * 12}, r"_save .*has another source.*read it again.*ppo.py writes the value model"),
        ("_save", {"parameters": ("folder",)}, r"takes \('output_dir', 'state_dict'\) instead of \('folder',\)"),
        ("_save", {"name": "_no_such_name"}, "_no_such_name .*is gone"),
        ("_step", {"name": "_no_such_name"}, "_no_such_name .*is gone"),
        ("_step", {"owner": "trl.trainer.grpo_trainer:NoTrainer"}, "is gone"),
        ("_step", {"owner": "trl.no_such_module:Trainer"}, "is gone"),
    ],
)
def test_a_changed_entry_is_described(name, changes, message):
    assert re.search(message, describe_change(dataclasses.replace(entry_named(name), **changes)))


@pytest.mark.parametrize("trainer", [GRPOTrainer, PPOTrainer, DPOTrainer, SFTTrainer])
def test_every_overridden_private_name_is_listed(trainer):
    listed = {entry.name for entry in INTERNALS}
    ours = [kind for kind in trainer.__mro__ if kind.__module__.startswith("rlcap.")]
    theirs = [kind for kind in trainer.__mro__ if kind.__module__.startswith(("trl.", "transformers."))]
    private = re.compile(r"self\.(_[a-z]\w*)|def (_[a-z]\w*)")

    def names(kinds):
        found = private.findall("\n".join(inspect.getsource(kind) for kind in kinds))
        return {name for pair in found for name in pair if name}

    assert names(ours) & names(theirs) <= listed


def test_every_private_name_of_another_object_is_listed():
    """Outside of `self`, `cls` and `super()`, the code reads private names of listed owners alone."""
    listed = {entry.name for entry in INTERNALS}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match("_[a-zA-Z]", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                above = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
                known = own or above or node.attr in listed or ast.unparse(node) in ELSEWHERE or node.attr == "_asdict"
                assert known, f"{path}:{node.lineno} {ast.unparse(node)} is not in rlcap/train/trl_compat.py"
