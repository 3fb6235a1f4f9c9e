"""Every package imports only what lies below it. The layers are those of the architecture page of the documentation."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BASE = {"rlcap.errors", "rlcap.types", "rlcap.config", "rlcap.io"}
MAY_IMPORT = {
    "rlcap.types": {"rlcap.errors"},
    "rlcap.errors": set(),
    "rlcap.io": {"rlcap.errors", "rlcap.types"},
    "rlcap.config": {"rlcap.errors", "rlcap.types", "rlcap.io"},
    "rlcap.algo": set(),
    "rlcap.scorers": BASE,
    "rlcap.judge": BASE | {"rlcap.scorers"},
    "rlcap.data": BASE | {"rlcap.scorers"},
    "rlcap.policy": BASE | {"rlcap.scorers", "rlcap.data"},
    "rlcap.reward": BASE | {"rlcap.judge", "rlcap.scorers", "rlcap.algo"},
    "rlcap.feedback": BASE | {"rlcap.judge", "rlcap.scorers", "rlcap.algo", "rlcap.reward"},
    "rlcap.probing": BASE | {"rlcap.scorers", "rlcap.algo", "rlcap.data", "rlcap.reward"},
    "rlcap.curate": BASE | {"rlcap.scorers", "rlcap.judge", "rlcap.algo", "rlcap.data", "rlcap.reward"},
    "rlcap.eval": BASE | {"rlcap.scorers", "rlcap.data", "rlcap.policy"},
    "rlcap.experts": BASE | {"rlcap.scorers", "rlcap.judge", "rlcap.data", "rlcap.policy", "rlcap.eval"},
    "rlcap.fuse": BASE | {"rlcap.scorers", "rlcap.judge", "rlcap.data", "rlcap.reward", "rlcap.eval", "rlcap.experts"},
    "rlcap.train": BASE
    | {
        "rlcap.scorers", "rlcap.judge", "rlcap.algo", "rlcap.data", "rlcap.policy", "rlcap.reward", "rlcap.feedback",
        "rlcap.eval",
    },
    "rlcap.rewards": BASE | {"rlcap.reward", "rlcap.judge", "rlcap.scorers", "rlcap.policy"},
}  # fmt: skip
"""Package → the packages that it may import, besides itself."""

ON_TOP = ("rlcap", "rlcap.cli", "rlcap.recipes", "rlcap.lab")
"""What may import any other package: `rlcap` itself only names what it loads late, and only `cli/lab.py` may import the lab."""

LAB_USER = "rlcap/cli/lab.py"
"""The one file outside the lab that imports it."""


def installed_name(path):
    """The dotted name under which a file is imported: `rewards/` is installed as `rlcap.rewards`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts if parts[0] == "rlcap" else ("rlcap", *parts))
    return name.removesuffix(".__init__")


def package_of(module):
    return ".".join(module.split(".")[:2])


def imported(path):
    """The modules that a file imports anywhere in it, those of relative imports resolved."""
    package = installed_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from rlcap import reward` imports the package of that name.
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "rlcap" else (module,)


def source_files():
    return sorted(path for folder in ("rlcap", "rewards", "recipes") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_downwards(path):
    name, own = path.relative_to(ROOT).as_posix(), package_of(installed_name(path))
    used = {package_of(module) for module in imported(path) if module.split(".")[0] == "rlcap"} - {own, "rlcap"}
    if own != "rlcap.lab":
        assert "rlcap.lab" not in used or name == LAB_USER, (
            f"{name} imports the lab: name it in a configuration instead"
        )
    if own in ON_TOP:
        return
    assert own in MAY_IMPORT, f"{name}: a new package; say in this test what it may import"
    forbidden = used - MAY_IMPORT[own] - {"rlcap.lab"}
    assert not forbidden, f"{name} imports {', '.join(sorted(forbidden))}, which lies above it or beside it"


def test_one_file_uses_the_lab():
    assert "rlcap.lab" in {package_of(module) for module in imported(ROOT / LAB_USER)}


def test_algo_is_tensors_alone():
    for path in (ROOT / "rlcap" / "algo").glob("*.py"):
        known = {*sys.stdlib_module_names, "torch", "rlcap"}
        assert {module.split(".")[0] for module in imported(path)} <= known, path.name


def test_evaluation_never_sees_the_mix():
    for path in (ROOT / "rlcap" / "eval").rglob("*.py"):
        seen = {package_of(module) for module in imported(path)}
        assert not seen & {"rlcap.reward", "rlcap.rewards", "rlcap.train"}, path.name
        assert "config.mix" not in path.read_text(encoding="utf-8"), path.name


def test_recipes_stay_short():
    for path in (ROOT / "recipes").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name


@pytest.mark.parametrize(
    "module",
    [
        "rlcap", "rlcap.types", "rlcap.config.required", "rlcap.config.loading", "rlcap.data.batching", "rlcap.data.curriculum",
        "rlcap.cli.main", "rlcap.cli.doctor", "rlcap.lab.world.scene", "rlcap.lab.world.truth", "rlcap.lab.source",
        "rlcap.lab.assets", "rlcap.data.loading", "rlcap.data.bags", "rlcap.reward.base", "rlcap.reward.mix",
        "rlcap.reward.cards", "rlcap.experts.running", "rlcap.experts.loading", "rlcap.fuse.run", "rlcap.fuse.distillation", "rlcap.probing.perturbations", "rlcap.eval.summary", "rlcap.train.run_folder",
    ],
)  # fmt: skip
def test_light_modules_import_nothing_heavy(module):
    heavy = ("torch", "transformers", "open_clip", "textgrad", "faiss", "wandb", "datasets", "litellm")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert found.strip() == "[]"
