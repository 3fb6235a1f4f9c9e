"""Parses captions in the language of the lab into assertions, and checks them against the scene.

The parser accepts any text, including ungrammatical samples of a model. It finds noun phrases, place phrases, relation
words, numbers and backgrounds by longest match, and binds each to the nearest noun phrase of its sentence. Text that it
can't parse asserts nothing. The check is exact, because the scene is known.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlcap.lab.world.language import NUMBERS, PLURALS
from rlcap.lab.world.scene import Scene, Thing, holds
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, PLACES, SIZES

_KIND = {**{kind: kind for kind in KINDS}, **{plural: kind for kind, plural in PLURALS.items()}}
_NUMBER = {word: number for number, word in NUMBERS.items()}
_ATTRIBUTE = {**dict.fromkeys(COLOURS, "colour"), **dict.fromkeys(SIZES, "size"), **dict.fromkeys(FILLS, "fill")}
_PLACE = {tuple(place.split()): place for place in PLACES} | {("center",): "middle", ("centre",): "middle"}


@dataclass(slots=True)
class Mention:
    """A noun phrase of a caption: a kind with the attributes that the caption states."""

    kind: str
    attributes: dict[str, str] = field(default_factory=dict)
    count: int = 1
    definite: bool = False
    things: tuple[int, ...] = ()
    """Indices of the things of the scene to which `check_caption` binds the mention; empty where there is none."""
    possible: tuple[int, ...] = ()
    """Indices of all things that fit equally well: a relation is true if it holds for any of them."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One claim of a caption."""

    what: str
    """The type of the claim: object, colour, size, fill, place, count, relation or background."""
    subject: str
    """The kind that the claim is about; `background` for the background."""
    value: str
    """The claimed value."""
    other: str = ""
    """The other kind of a relation."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a caption against a scene."""

    claims: dict[Assertion, bool]
    """Each different claim, in order of appearance → whether it is true."""
    stated: frozenset[tuple]
    """The facts of the scene (`facts`) that the caption states."""
    total: int
    """The number of facts of the scene."""

    @property
    def wrong(self) -> list[Assertion]:
        """The false claims."""
        return [claim for claim, true in self.claims.items() if not true]

    @property
    def recall(self) -> float:
        """The share of the scene's facts that the caption states, in [0, 1]."""
        return len(self.stated) / self.total

    @property
    def hallucination_rate(self) -> float:
        """The share of claims that are false, in [0, 1]; 0 for a caption without claims."""
        return len(self.wrong) / len(self.claims) if self.claims else 0.0


def words(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks."""
    return re.findall(r"[a-z]+|[.!?,:]", text.lower())


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence, without punctuation marks."""
    result: list[list[str]] = [[]]
    for word in words(text):
        if word in ".!?":
            result.append([])
        elif word.isalpha():
            result[-1].append(word)
    return [sentence for sentence in result if sentence]


def parse_caption(text: str) -> tuple[list[Mention], list[tuple[int, str, int]], list[str]]:
    """Parse a caption.

    Returns:
        The mentions, the relations as (index of a mention, relation, index of another mention), and the backgrounds.
    """
    mentions: list[Mention] = []
    relations: list[tuple[int, str, int]] = []
    grounds: list[str] = []
    for sentence in sentences(text):
        start = len(mentions)
        pending: dict[str, str] = {}
        count, definite, predicate, negated = 1, False, False, False
        relation: str | None = None
        pending_place: str | None = None
        i = 0
        while i < len(sentence):
            word = sentence[i]
            pair = tuple(sentence[i : i + 2])
            if pair in (("left", "of"), ("right", "of")):
                relation, i = " ".join(pair), i + 2
            elif word in ("above", "below"):
                relation, i = word, i + 1
            elif pair in _PLACE or (word,) in _PLACE:
                place = _PLACE.get(pair) or _PLACE[(word,)]
                i += 2 if pair in _PLACE else 1
                if len(mentions) > start and not pending and "place" not in mentions[-1].attributes:
                    mentions[-1].attributes["place"] = place
                else:
                    pending_place = place
            elif word in _ATTRIBUTE:
                pending[_ATTRIBUTE[word]] = word
                i += 1
            elif word in _NUMBER:
                count, i = _NUMBER[word], i + 1
            elif word in _KIND and negated:
                # `there is no boat` makes no claim that the metrics count.
                pending, negated, i = {}, False, i + 1
            elif word in _KIND:
                mention = Mention(_KIND[word], pending, count, definite)
                if pending_place:
                    mention.attributes["place"] = pending_place
                mentions.append(mention)
                if relation and len(mentions) - start >= 2:
                    relations.append((len(mentions) - 2, relation, len(mentions) - 1))
                pending, count, definite, relation, pending_place, predicate = {}, 1, False, None, None, False
                i += 1
            else:
                if word in BACKGROUNDS:
                    grounds.append(word)
                if word in ("is", "are"):
                    predicate = len(mentions) > start
                elif word in ("a", "an", "the", "and"):
                    # `the ball is red and the tree is green`: the words after the verb describe the ball.
                    if predicate and pending:
                        _add_attributes(mentions[-1], pending)
                        pending, predicate = {}, False
                    definite = word == "the" if word != "and" else definite
                elif word in ("no", "not"):
                    negated = True
                i += 1
        # `the ball is red`: remaining attributes belong to the last noun phrase.
        if pending and len(mentions) > start:
            _add_attributes(mentions[-1], pending)
    return mentions, relations, grounds


def _add_attributes(mention: Mention, attributes: dict[str, str]) -> None:
    """Add attributes to a mention, but keep those that it has."""
    for name, value in attributes.items():
        mention.attributes.setdefault(name, value)


@functools.lru_cache(maxsize=1024)
def facts(scene: Scene) -> tuple[tuple, ...]:
    """Return the facts of a scene that a caption can state.

    They are every thing with its four attributes, the counts above one, the background, and the relation of each thing
    to the nearest thing of another kind. Such a relation counts as stated in either direction.
    """
    result: list[tuple] = [("background",)]
    for i in range(len(scene.things)):
        result += [(what, i) for what in ("object", "colour", "size", "fill", "place")]
    result += [("count", kind) for kind in dict.fromkeys(t.kind for t in scene.things) if scene.count(kind) > 1]
    result += [("relation", *pair) for pair in sorted(_neighbours(scene))]
    return tuple(result)


def _neighbours(scene: Scene) -> set[tuple[int, int]]:
    """Return the index pairs (smaller, larger) of each thing and the nearest thing of another kind."""

    def squared_distance(a: Thing, b: Thing) -> int:
        ra, ca = divmod(PLACES.index(a.place), 3)
        rb, cb = divmod(PLACES.index(b.place), 3)
        return (ra - rb) ** 2 + (ca - cb) ** 2

    pairs = set()
    for i, thing in enumerate(scene.things):
        others = [
            (squared_distance(thing, other), j) for j, other in enumerate(scene.things) if other.kind != thing.kind
        ]
        if others:
            j = min(others)[1]
            pairs.add((min(i, j), max(i, j)))
    return pairs


def _bind(mention: Mention, scene: Scene, mentioned: set[int]) -> None:
    """Bind a mention to the things that suit it best.

    These are the things with the most correct attributes. Among equals, `a` prefers things that are not `mentioned`
    yet, and `the` prefers things that are.
    """

    def correct(i: int) -> int:
        return sum(getattr(scene.things[i], name) == value for name, value in mention.attributes.items())

    candidates = [i for i, thing in enumerate(scene.things) if thing.kind == mention.kind]
    candidates.sort(key=lambda i: (-correct(i), (i in mentioned) != mention.definite, i))
    mention.things = tuple(candidates[: mention.count])
    mention.possible = tuple(i for i in candidates if correct(i) == correct(candidates[0]))


def check_caption(caption: str, scene: Scene) -> Verdict:
    """Check every claim of a caption against the scene.

    A repeated claim counts once. A claim about an absent thing is false.
    """
    mentions, relations, grounds = parse_caption(caption)
    claims: dict[Assertion, bool] = {}
    stated: set[tuple] = set()
    mentioned: set[int] = set()

    def add_claim(what: str, subject: str, value: str, true: bool, other: str = "") -> None:
        key = Assertion(what, subject, value, other)
        claims[key] = claims.get(key, False) or true

    for mention in mentions:
        _bind(mention, scene, mentioned)
        mentioned.update(mention.things)
        add_claim("object", mention.kind, mention.kind, bool(mention.things))
        stated.update(("object", i) for i in mention.things)
        for name, value in mention.attributes.items():
            correct = [i for i in mention.things if getattr(scene.things[i], name) == value]
            add_claim(name, mention.kind, value, bool(correct) and len(correct) == len(mention.things))
            stated.update((name, i) for i in correct)
        if mention.count > 1:
            true = scene.count(mention.kind) == mention.count
            add_claim("count", mention.kind, str(mention.count), true)
            if true:
                stated.add(("count", mention.kind))
    for one, relation, two in relations:
        first, second = mentions[one], mentions[two]
        pairs = [
            (i, j)
            for i in first.possible
            for j in second.possible
            if i != j and holds(relation, scene.things[i], scene.things[j])
        ]
        add_claim("relation", first.kind, relation, bool(pairs), second.kind)
        stated.update(("relation", min(p), max(p)) for p in pairs)
    for ground in grounds:
        add_claim("background", "background", ground, ground == scene.background)
        if ground == scene.background:
            stated.add(("background",))
    all_facts = facts(scene)
    return Verdict(claims, frozenset(stated & set(all_facts)), len(all_facts))


def fit_score(caption: str, scene: Scene) -> float:
    """Return how well a caption fits a scene: the number of true claims minus the number of false ones."""
    verdict = check_caption(caption, scene)
    return sum(1 if true else -1 for true in verdict.claims.values())


def singles_out(caption: str, scene: Scene, others: Iterable[Scene]) -> bool:
    """Return whether the caption fits its own scene strictly better than every other scene of the bag."""
    own = fit_score(caption, scene)
    return all(fit_score(caption, other) < own for other in others)


_CLASS = {
    **dict.fromkeys(("a", "an"), "A"), "the": "T", **dict.fromkeys(_NUMBER, "Q"), **dict.fromkeys(SIZES, "s"),
    **dict.fromkeys(FILLS, "f"), **dict.fromkeys(COLOURS, "c"), **dict.fromkeys(KINDS, "N"),
    **{plural: "P" for kind, plural in PLURALS.items() if plural != kind}, **dict.fromkeys(BACKGROUNDS, "g"),
    "there": "h", "is": "i", "are": "r", "and": "&", "on": "o", "in": "n", "at": "@", "to": "2", "of": "O",
    "top": "t", "bottom": "b", "left": "l", "right": "R", "middle": "m", "corner": "k", "side": "d",
    "above": "v", "below": "v", "background": "B", "fish": "F", "with": "w",
}  # fmt: skip
_NP = r"(?:[AT]s?f?c?[NF]|Qs?f?c?[PF])"
_PLACE_RE = r"(?:nT[tb][lR]k|@T[tb]|oT[lR]d|nTm)"
_REL_RE = r"(?:2T[lR]O|v)"
_LIST = rf"{_NP}(?:{_PLACE_RE})?(?:&{_NP}(?:{_PLACE_RE})?)*"
_SENTENCE = re.compile(rf"(?:h[ir]{_LIST}|{_LIST}|{_NP}[ir]?(?:{_PLACE_RE}|{_REL_RE}{_NP}))(?:og)?|TBig|hi?{_LIST}og")


def grammatical_share(caption: str) -> float:
    """Return the share of the caption's sentences that the grammar of the lab accepts; 0 for an empty caption."""
    parsed = sentences(caption)
    if not parsed:
        return 0.0
    return sum(bool(_SENTENCE.fullmatch("".join(_CLASS.get(w, "?") for w in s))) for s in parsed) / len(parsed)
