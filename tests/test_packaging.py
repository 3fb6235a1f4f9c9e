"""What an installation holds: every package of the tree, its data files, and the marker of inline types."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
ROOTS = {"rlcap": "rlcap", "rewards": "rlcap.rewards", "recipes": "rlcap.recipes"}


def test_every_package_of_the_tree_is_listed():
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for folder, name in ROOTS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == found


def test_every_module_lies_in_a_package():
    for folder in ROOTS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py, so no wheel holds it"


def test_every_data_file_is_installed():
    patterns = SETUPTOOLS["package-data"]
    for folder, name in ROOTS.items():
        files = {path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        covered = {path for pattern in patterns[name] for path in (ROOT / folder).glob(pattern)}
        assert not files - covered, f"no pattern of package-data covers {sorted(files - covered)[0]}"
