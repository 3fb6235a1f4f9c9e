"""Cards: the description at the top of a reward's file, in one fixed form that people and programs read.

    \"\"\"Length: a gate with two sides, so that neither silence nor rambling wins.

    measures  ρ = words(caption) / words(reference)
    range     [-1, 0], or [0, 1] as a gate; …
    \"\"\"

A card is a title (`Name: one sentence.`), a blank line, and then every key of `KEYS` once and in that order. A key's
text begins in column ten and continues in lines that are indented as far. The text up to the first semicolon is its
short form, which tables show. Cards are read from source, so that a list of rewards imports none of them.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlcap.config.imports import unknown
from rlcap.errors import CardError, ConfigError

KEYS: Mapping[str, str] = {
    "measures": "the number, as a formula where there is one",
    "range": "lowest and highest value",
    "needs": "what a row must contain",
    "cost": "what scoring a caption costs",
    "source": "who published it, with the equation; what differs here",
    "hack": "how a policy wins it without writing a better caption",
    "guards": "what prevents that",
    "fails": "probes that beat a good caption by this reward alone on more than 5 % of images, or none, or not measured; how it was measured",
}
"""Key → what its text says."""
_INDENT = 10


@dataclass(frozen=True, slots=True)
class Card:
    """The card of one file."""

    module: str
    """Dotted name of the file's module."""
    title: str
    """The first line: a name, a colon, and what the reward asks about a caption."""
    fields: Mapping[str, str]
    """Key → text, line breaks kept; has exactly the keys of `KEYS`, in that order."""
    classes: tuple[str, ...]
    """Names of the file's rewards."""

    @property
    def name(self) -> str:
        """The last part of the module's name."""
        return self.module.rpartition(".")[2]

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that a mix writes after `reward:`."""
        return tuple(f"{self.module}:{name}" for name in self.classes)

    @property
    def question(self) -> str:
        """The title without its name."""
        return self.title.partition(": ")[2]

    @property
    def fails(self) -> tuple[str, ...]:
        """Names of the probes that the reward is known to lose against (see `rlcap.probing.perturbations`)."""
        names = self.short("fails")
        return () if names in ("none", "not measured") else tuple(names.split(", "))

    def short(self, key: str) -> str:
        """Return a field up to its first semicolon, in one line."""
        return " ".join(self.fields[key].split()).partition(";")[0]

    def text(self) -> str:
        """Return the whole card as it is written in the file, with the paths that a mix names."""
        body = "\n".join(
            f"{key:<{_INDENT}}" + value.replace("\n", "\n" + " " * _INDENT) for key, value in self.fields.items()
        )
        return f"{self.title}\n{', '.join(self.paths)}\n\n{body}"


def parse(docstring: str, module: str, classes: Sequence[str] = ()) -> Card:
    """Parse a card.

    Args:
        docstring: the docstring of a file, dedented.
        module: dotted name of the file's module.
        classes: names of the rewards in the file.

    Raises:
        CardError: where the title or a key is missing, or where a key is out of order, empty or there twice.
    """
    title, _, rest = docstring.strip("\n").partition("\n")
    if not re.fullmatch(r"\S.*?: .*[.?]", title):
        raise CardError(f"{module}: a card must begin with `Name: one sentence.`, got {title[:80]!r}")
    fields: dict[str, list[str]] = {}
    for line in rest.strip("\n").splitlines():
        key, text = line[:_INDENT].strip(), line[_INDENT:].strip()
        if key:
            if key not in KEYS:
                raise CardError(f"{module}: {unknown('key of a card', key, KEYS)} (in the line {line[:60]!r})")
            if key in fields:
                raise CardError(f"{module}: the card has the key {key} twice")
            fields[key] = [text]
        elif not text or not fields:
            raise CardError(f"{module}: a card must have one blank line, after its title, and only its keys below")
        else:
            fields[list(fields)[-1]].append(text)
    if missing := [key for key in KEYS if not "".join(fields.get(key, ()))]:
        raise CardError(f"{module}: the card lacks {', '.join(missing)}: {KEYS[missing[0]]}")
    if list(fields) != list(KEYS):
        raise CardError(f"{module}: a card's keys must be in the order {', '.join(KEYS)}, got {', '.join(fields)}")
    return Card(module, title, {key: "\n".join(lines) for key, lines in fields.items()}, tuple(classes))


def read(path: Path, module: str) -> Card:
    """Read the card of a file.

    Raises:
        CardError: where the file has no complete card, or no reward.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rewards: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {getattr(base, "id", getattr(base, "attr", "")) for base in node.bases}
            if bases & {"Reward", "JudgeReward", *rewards}:
                rewards.append(node.name)
    if not rewards:
        raise CardError(f"{path} has no class derived from Reward")
    return parse(ast.get_docstring(tree) or "", module, rewards)


def cards(package: str = "rlcap.rewards") -> list[Card]:
    """Return the cards of all files of a package, sorted by name; files that begin with `_` are left out.

    Raises:
        ConfigError: where there is no such package.
        CardError: for a file without a complete card.
    """
    spec = importlib.util.find_spec(package)
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else None
    if folder is None:
        raise ConfigError(f"there is no package {package!r}: install rlcap (`pip install -e .`), or run from its root")
    files = {path.stem: path for path in folder.glob("[!_]*.py")}
    # A reward with a parser and a prompt is a folder, which imports the reward's class from its reward.py.
    files |= {path.parent.name: path for path in folder.glob("[!_]*/reward.py")}
    return [read(path, f"{package}.{name}") for name, path in sorted(files.items())]


def find(name: str, package: str = "rlcap.rewards") -> Card:
    """Return the card of a name: `length`, `rlcap.rewards.length` or `rlcap.rewards.length:Length`.

    Raises:
        ConfigError: where there is no such card; it proposes the nearest name.
    """
    by_name = {card.name: card for card in cards(package)}
    module_name = name.partition(":")[0].removesuffix(".reward").rpartition(".")[2]
    if module_name not in by_name:
        raise ConfigError(unknown("reward", name, by_name))
    return by_name[module_name]


@functools.cache
def short_names() -> Mapping[str, str]:
    """Return short name → dotted path of every shipped reward: clip_score → rlcap.rewards.clip_score:ClipScore."""
    return {_snake_case(path.rpartition(":")[2]): path for card in cards() for path in card.paths}


def reward_path(name: str) -> str:
    """Return the dotted path of a reward that is named by its short name; a dotted path is returned as it is.

    Raises:
        ConfigError: where there is no such short name; it names the nearest one.
    """
    if ":" in name:
        return name
    known = short_names()
    if name not in known:
        raise ConfigError(unknown("reward", name, known) + "; your own is named by module:Class or file.py:Class")
    return known[name]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def table(listed: Iterable[Card]) -> str:
    """Return the rewards' names, ranges, needs and questions as a table for a terminal, one line each."""
    rows = [("reward", "range", "needs", "what it asks")]
    rows += [(card.name, card.short("range"), card.short("needs"), card.question) for card in listed]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    )


def markdown(listed: Iterable[Card]) -> str:
    """Return the table of the README."""
    lines = ["| reward | what it asks | range | needs | known hack |", "| --- | --- | --- | --- | --- |"]
    for card in listed:
        paths = "<br>".join(f"`{path}`" for path in card.paths)
        cells = (paths, card.question, card.short("range"), card.short("needs"), card.short("hack"))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def missing_lines(text: str, listed: Iterable[Card]) -> list[str]:
    """Return the lines of the Markdown table that a text (the README) lacks; [] where it holds the current table."""
    lines = set(text.splitlines())
    return [line for line in markdown(listed).splitlines() if line not in lines]
