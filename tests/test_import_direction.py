"""Every part knows only what stands below it: the house of DESIGN, held by its imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOUNS = {
    "rlcap.types",
    "rlcap.config_file",
    "rlcap.config",
    "rlcap.config_check",
    "rlcap.batching",
    "rlcap.curriculum",
    "rlcap.sampler",
}
"""The single files that stand beside the rooms; which of them a room may use is listed as for any other."""

MAY = {
    "rlcap.types": set(),
    "rlcap.config_file": {"rlcap.types"},
    "rlcap.config": {"rlcap.config_file", "rlcap.types"},
    "rlcap.config_check": {"rlcap.config", "rlcap.types"},
    "rlcap.batching": {"rlcap.types"},
    "rlcap.curriculum": {"rlcap.types"},
    "rlcap.sampler": {"rlcap.batching", "rlcap.types"},
    "rlcap.scorers": {"rlcap.types"},
    "rlcap.algo": set(),
    "rlcap.reward": {"rlcap.scorers", "rlcap.types"},
    "rlcap.lab": {"rlcap.scorers", "rlcap.types"},
    "rlcap.data": {"rlcap.scorers", "rlcap.types", "rlcap.config", "rlcap.lab"},
    "rlcap.policy": {"rlcap.scorers", "rlcap.types", "rlcap.config", "rlcap.lab", "rlcap.data"},
    "rlcap.eval": {"rlcap.scorers", "rlcap.types", "rlcap.data", "rlcap.lab", "rlcap.policy"},
    "rlcap.train": NOUNS
    | {"rlcap.scorers", "rlcap.reward", "rlcap.policy", "rlcap.data", "rlcap.algo", "rlcap.eval", "rlcap.lab"},
    "rlcap.rewards": {"rlcap.reward", "rlcap.scorers", "rlcap.types"},
}
"""Room → the rooms it may import, besides itself."""

EXCEPT = {
    "rlcap/lab/engine.py": {"rlcap.reward"},  # an engine writes what the critique reward reads
    "rlcap/lab/claims_engine.py": {"rlcap.reward"},  # so does this one, for the claims reward
    "rlcap/lab/comparers.py": {"rlcap.reward"},  # these two, for the critique's other forms
    "rlcap/lab/differences.py": {"rlcap.reward"},  # and this one, for claim_diff
    "rlcap/lab/reviser.py": {"rlcap.reward"},  # and this one reads the fences of its prompts
    "rlcap/lab/build.py": {
        "rlcap.config",
        "rlcap.policy",
        "rlcap.train",
    },  # the adapter is made by the SFT recipe's own code
}
"""File → what it may import beyond its room."""

ANYTHING = ("rlcap/cli.py", "rlcap/score.py", "rlcap/probe.py", "rlcap/doctor.py", "rlcap/__init__.py")
"""The command line stands on top, beside the recipes."""


def room(module):
    parts = module.split(".")
    return parts[0] if parts[0] != "rlcap" else ".".join(parts[:2])


def imported(path):
    """The modules that a file imports, anywhere in it, those of relative imports resolved."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from rlcap import curriculum` imports the module of that name.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "rlcap" else (module,)


def installed_name(path):
    """The dotted name under which a file is imported: the concrete rewards are installed as rlcap.rewards."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "rlcap" else ("rlcap", *parts))
    return name.removesuffix(".__init__")


def ours():
    return sorted(path for folder in ("rlcap", "rewards") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", ours(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    name = path.relative_to(ROOT).as_posix()
    own = room(installed_name(path))
    modules = set(imported(path))
    for module in modules:
        assert room(module) not in ("rlcap.recipes", "tests", "benchmarks"), f"{name} imports {module}"
    if name in ANYTHING or own == "rlcap.commands":
        return
    assert own in MAY, f"{name}: a new room; say in this test what it may import"
    used = {room(module) for module in modules if module.split(".")[0] == "rlcap"} - {own}
    forbidden = used - MAY[own] - EXCEPT.get(name, set())
    assert not forbidden, f"{name} imports {', '.join(sorted(forbidden))}, which stands above it or beside it"


def test_algo_is_tensors_alone():
    for path in (ROOT / "rlcap" / "algo").glob("*.py"):
        known = {*sys.stdlib_module_names, "torch", "rlcap"}
        assert {module.split(".")[0] for module in imported(path)} <= known, path.name


def test_evaluation_never_sees_the_mix():
    for path in (ROOT / "rlcap" / "eval").glob("*.py"):
        assert not {room(module) for module in imported(path)} & {"rlcap.reward", "rlcap.rewards", "rlcap.train"}, (
            path.name
        )
        assert "config.mix" not in path.read_text(), path.name


def test_exceptions_are_still_needed():
    for name, rooms in EXCEPT.items():
        assert rooms <= {room(module) for module in imported(ROOT / name)}, name


def test_recipes_stay_short():
    for path in (ROOT / "recipes").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 150, path.name


@pytest.mark.parametrize(
    "module",
    [
        "rlcap", "rlcap.types", "rlcap.config", "rlcap.batching", "rlcap.curriculum", "rlcap.cli", "rlcap.doctor", "rlcap.score",
        "rlcap.lab.scene", "rlcap.lab.truth", "rlcap.lab.splits", "rlcap.lab.assets", "rlcap.data.sources", "rlcap.data.bags",
        "rlcap.reward.base", "rlcap.reward.mix", "rlcap.reward.card", "rlcap.reward.probes", "rlcap.probe", "rlcap.eval.summary", "rlcap.train.run_folder",
    ],
)  # fmt: skip
def test_light_modules_import_nothing_heavy(module):
    heavy = ("torch", "transformers", "open_clip", "textgrad", "faiss", "wandb", "datasets", "litellm")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert found.strip() == "[]"
