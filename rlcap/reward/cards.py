"""Cards: what a reward's file says of it at its top, in one fixed form that people and programs read.

    \"\"\"Length: a two-sided gate, so that neither silence nor rambling wins.

    measures  ρ = words(caption) / words(reference)
    range     [-1, 0], or [0, 1] as a gate; …
    \"\"\"

A title (`Name: one sentence.`), a blank line, then every key of `KEYS` once and in that order, its text from the tenth
column on, going on in lines indented as far. Up to the first semicolon a text is its short form, which tables show.
Cards are read from source, so that listing rewards imports none of them.
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
    "needs": "what a row must carry",
    "cost": "what a caption costs",
    "source": "who published it, with the equation; what differs here",
    "hack": "how a policy wins it without writing a better caption",
    "guards": "what keeps it from that",
    "fails": "probes that beat a good caption by this reward alone on more than 5 % of images, none, or not measured; where measured",
}
"""Key → what stands behind it."""
_INDENT = 10


@dataclass(frozen=True, slots=True)
class Card:
    """One file's card."""

    module: str
    """Dotted name of the file's module."""
    title: str
    """The first line: a name, a colon, and what the reward asks of a caption."""
    fields: Mapping[str, str]
    """Key → text, line breaks kept; has exactly the keys of `KEYS`, in that order."""
    classes: tuple[str, ...]
    """Names of the file's rewards."""

    @property
    def name(self) -> str:
        return self.module.rpartition(".")[2]

    @property
    def paths(self) -> tuple[str, ...]:
        """What a mix writes after `reward:`."""
        return tuple(f"{self.module}:{name}" for name in self.classes)

    @property
    def question(self) -> str:
        """The title without its name."""
        return self.title.partition(": ")[2]

    @property
    def fails(self) -> tuple[str, ...]:
        """Names of the probes that it is known to lose (see `rlcap.probing.perturbations`)."""
        names = self.short("fails")
        return () if names in ("none", "not measured") else tuple(names.split(", "))

    def short(self, key: str) -> str:
        """A field up to its first semicolon, in one line."""
        return " ".join(self.fields[key].split()).partition(";")[0]

    def text(self) -> str:
        """The whole card, as it stands in the file, with the paths that a mix names."""
        body = "\n".join(
            f"{key:<{_INDENT}}" + value.replace("\n", "\n" + " " * _INDENT) for key, value in self.fields.items()
        )
        return f"{self.title}\n{', '.join(self.paths)}\n\n{body}"


def parse(docstring: str, module: str, classes: Sequence[str] = ()) -> Card:
    """A docstring (dedented) → its card. CardError where title or a key is missing, out of order, twice or empty."""
    title, _, rest = docstring.strip("\n").partition("\n")
    if not re.fullmatch(r"\S.*?: .*[.?]", title):
        raise CardError(f"{module}: a card begins with `Name: one sentence.`, got {title[:80]!r}")
    fields: dict[str, list[str]] = {}
    for line in rest.strip("\n").splitlines():
        key, text = line[:_INDENT].strip(), line[_INDENT:].strip()
        if key:
            if key not in KEYS:
                raise CardError(f"{module}: {unknown('key of a card', key, KEYS)} (in the line {line[:60]!r})")
            if key in fields:
                raise CardError(f"{module}: the card says {key} twice")
            fields[key] = [text]
        elif not text or not fields:
            raise CardError(f"{module}: a card has one blank line, after its title, and only its keys below")
        else:
            fields[list(fields)[-1]].append(text)
    if missing := [key for key in KEYS if not "".join(fields.get(key, ()))]:
        raise CardError(f"{module}: the card lacks {', '.join(missing)}: {KEYS[missing[0]]}")
    if list(fields) != list(KEYS):
        raise CardError(f"{module}: a card's keys stand in the order {', '.join(KEYS)}; here: {', '.join(fields)}")
    return Card(module, title, {key: "\n".join(lines) for key, lines in fields.items()}, tuple(classes))


def read(path: Path, module: str) -> Card:
    """The card of a file. CardError where it has none, or no reward below it."""
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
    """The cards of all files of a package, by name; files that begin with `_` are passed over."""
    spec = importlib.util.find_spec(package)
    folder = Path(next(iter(spec.submodule_search_locations or ()))) if spec else None
    if folder is None:
        raise ConfigError(f"there is no package {package!r}: install rlcap (`pip install -e .`), or run from its root")
    files = {path.stem: path for path in folder.glob("[!_]*.py")}
    # a reward with a parser and a prompt is a folder, which imports the reward's class from its reward.py
    files |= {path.parent.name: path for path in folder.glob("[!_]*/reward.py")}
    return [read(path, f"{package}.{name}") for name, path in sorted(files.items())]


def find(name: str, package: str = "rlcap.rewards") -> Card:
    """The card of that name (`length`, `rlcap.rewards.length` or `rlcap.rewards.length:Length`). ConfigError lists the known ones."""
    known = {card.name: card for card in cards(package)}
    wanted = name.partition(":")[0].removesuffix(".reward").rpartition(".")[2]
    if wanted not in known:
        raise ConfigError(unknown("reward", name, known))
    return known[wanted]


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


def table(found: Iterable[Card]) -> str:
    """Name, question and needs, a line each, for a terminal."""
    rows = [("reward", "range", "needs", "what it asks")]
    rows += [(card.name, card.short("range"), card.short("needs"), card.question) for card in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]) for row in rows
    )


def markdown(found: Iterable[Card]) -> str:
    """The table of the README."""
    lines = ["| reward | what it asks | range | needs | known hack |", "| --- | --- | --- | --- | --- |"]
    for card in found:
        paths = "<br>".join(f"`{path}`" for path in card.paths)
        cells = (paths, card.question, card.short("range"), card.short("needs"), card.short("hack"))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def missing_lines(text: str, found: Iterable[Card]) -> list[str]:
    """Lines of the Markdown table that a text (the README) lacks; [] where it holds the table as it is now."""
    lines = set(text.splitlines())
    return [line for line in markdown(found).splitlines() if line not in lines]
