"""The documentation says nothing that isn't there: links, commands, names, configurations and generated pages."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

import rlcap
from rlcap.cli.main import build_parser
from rlcap.reward.mix import check_mix

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*(path for path in DOCS.rglob("*.md") if "templates" not in path.parts)]
    + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
)
RUNNABLE = re.compile(r"<!-- runnable -->\n```python\n(.*?)```", re.DOTALL)


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(language):
    """(page, text) of every fenced block of a language, indented ones included."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
    return [(name_of(page), match[2]) for page in PAGES for match in fence.finditer(page.read_text(encoding="utf-8"))]


def commands():
    """(page, words) of every `rlcap` command in a block of shell commands, without those that hold placeholders."""
    found = []
    for page, text in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if part.strip().startswith("rlcap ") and not re.search(r"[…<>\[]|\|", part):
                    found.append(pytest.param(shlex.split(part, comments=True)[1:], id=f"{page}: {part.strip()[:60]}"))
    return found


def load_generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- links and pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_and_images_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"(?<!\\)\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{target} does not exist"


def test_every_page_is_in_the_navigation():
    def pages(item):
        if isinstance(item, dict):
            item = list(item.values())
        return {item} if isinstance(item, str) else {page for inner in item for page in pages(inner)}

    nav = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert nav == {str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("group", ["rewards", "results"])
def test_generated_pages_are_not_stale(group):
    generate = load_generate()
    pages, problems = generate.generate([group])
    assert not problems
    assert not generate.stale_pages(pages), "run python docs/generate.py"


def test_a_stale_page_and_a_missing_table_are_reported(tmp_path):
    generate = load_generate()
    page = tmp_path / "page.md"
    page.write_text("old")
    assert generate.stale_pages({page: "new", tmp_path / "other.md": ""}) == [page, tmp_path / "other.md"]
    assert generate.stale_pages({page: "old"}) == []
    with pytest.raises(generate.PageError, match="no table 'links'"):
        generate.fill("rewards", {"rewards": str})


def test_every_table_is_shown_somewhere():
    generate = load_generate()
    shown = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "templates").glob("*.md"))
    assert {name for name in generate.TABLES if f"<!-- table: {name} -->" not in shown} == {"headline"}


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands())
def test_commands_parse(words):
    parser = build_parser()
    options, rest = parser.parse_known_args(words)
    assert all("=" in word for word in rest), f"unknown arguments {rest}"
    assert not rest or getattr(options, "takes_overrides", True)


def test_commands_within_sentences_exist():
    known = set(build_parser()._subparsers._group_actions[0].choices)
    for page in PAGES:
        for command in re.findall(r"`rlcap ([a-z]+)", page.read_text(encoding="utf-8")):
            assert command in known, f"{name_of(page)}: rlcap {command}"


def test_scripts_in_commands_exist():
    for page, text in blocks("bash"):
        for script in re.findall(r"(?:recipes|benchmarks|launch|docs)/[\w/]+\.(?:py|yaml)", text):
            assert (ROOT / script).is_file(), f"{page}: {script}"


# ---- names -----------------------------------------------------------------------------------------------------------


@cache
def names_in(module):
    """Names that a module defines or imports at its top, and `Class.member`, read from source: importing all would take long."""
    spec = importlib.util.find_spec(module)
    names = set()
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            names |= {f"{node.name}.{inner.name}" for inner in getattr(node, "body", ()) if hasattr(inner, "name")}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def problem_with(path):
    """What is wrong with a dotted path such as rlcap.rewards.length:Length, or None."""
    module, _, rest = path.partition(":")
    names = rest.split(".") if rest else []
    while not is_module(module) and "." in module:
        module, _, last = module.rpartition(".")
        names.insert(0, last)
    if module == "rlcap" and names:
        return None if is_public(names[0]) else f"rlcap has no {names[0]}"
    if not names or ".".join(names[:2]) in names_in(module) or names[0] in names_in(module):
        return None
    return f"{module} has no {'.'.join(names)}"


def is_public(name):
    """Whether `from rlcap import name` works. Before the package has a lazy interface nothing can be said, hence True."""
    return not hasattr(rlcap, "__getattr__") or is_module(f"rlcap.{name}") or hasattr(rlcap, name)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_dotted_paths_exist(page):
    text = page.read_text(encoding="utf-8")
    paths = {match.rstrip(".") for match in re.findall(r"(?<![\w/])rlcap(?:\.\w+)+(?::\w+)?", text)}
    ahead = {"rlcap.lab.source:LabSource"} if "LabSource" not in names_in("rlcap.lab.source") else set()
    assert [problem for path in sorted(paths - ahead) if (problem := problem_with(path))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_repository_exist(page):
    for path in re.findall(
        r"`((?:rlcap|recipes|rewards|launch|benchmarks|tests|docs)/[\w/.-]+)`", page.read_text("utf-8")
    ):
        if "NAME" not in path:
            assert (ROOT / path).exists(), f"{path} does not exist"


@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=lambda value: value if value.endswith(".md") else "")
def test_python_is_valid_and_its_imports_exist(page, code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "rlcap":
            for alias in node.names:
                assert problem_with(f"{node.module}:{alias.name}") is None


def test_runnable_examples_run(tmp_path):
    pages = (ROOT / "README.md", DOCS / "quickstart.md")
    examples = {match for page in pages for match in RUNNABLE.findall(page.read_text(encoding="utf-8"))}
    assert len(examples) == 1  # the same in both
    if not hasattr(rlcap, "load_captioner"):
        pytest.skip("rlcap.load_captioner does not exist yet")
    run = subprocess.run(
        [sys.executable, "-c", examples.pop()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("'repetition':") == 3


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=lambda value: value if value.endswith(".md") else "")
def test_yaml_is_valid_and_its_mixes_can_be_built(page, text):
    mix = (yaml.safe_load(text) or {}).get("mix") or {}
    shipped = {
        name: entry for name, entry in mix.items() if ".py:" not in entry["reward"] and "my_" not in entry["reward"]
    }
    if "…" not in text:
        check_mix(shipped, ("device", "gallery"))
