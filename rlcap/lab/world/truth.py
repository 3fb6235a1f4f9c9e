"""Reads free captions of the lab's language back into assertions and judges them against the scene.

The reader takes anything, also sampled and ungrammatical text: it finds noun phrases, place phrases, relation words,
numbers and backgrounds by longest match and binds each to the nearest noun phrase of its sentence. What it can't read
asserts nothing. Judging is exact, because the scene is known.
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
    """A noun phrase of a caption: a kind and what is said of it."""

    kind: str
    attributes: dict[str, str] = field(default_factory=dict)
    count: int = 1
    definite: bool = False
    things: tuple[int, ...] = ()
    """Indices of the scene's things it was bound to by `check_caption`; empty where there is none."""
    possible: tuple[int, ...] = ()
    """Indices of all things that it fits as well as those: a relation is true if it holds for any of them."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One claim of a caption: (`what`, `subject`, `value`), for a relation also the `other` kind."""

    what: str
    """object, colour, size, fill, place, count, relation or background."""
    subject: str
    value: str
    other: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a caption claims of a scene, and what of the scene it tells."""

    claims: dict[Assertion, bool]
    """Each different claim, in order of appearance, and whether it is true."""
    stated: frozenset[tuple]
    """The facts of the scene (`facts`) that the caption states."""
    total: int
    """How many facts the scene has."""

    @property
    def wrong(self) -> list[Assertion]:
        return [claim for claim, true in self.claims.items() if not true]

    @property
    def recall(self) -> float:
        """Facts told over facts, in [0, 1]."""
        return len(self.stated) / self.total

    @property
    def hallucination_rate(self) -> float:
        """False claims over claims, in [0, 1]; 0 where nothing is claimed."""
        return len(self.wrong) / len(self.claims) if self.claims else 0.0


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[.!?,:]", text.lower())


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence, marks dropped."""
    result: list[list[str]] = [[]]
    for word in words(text):
        if word in ".!?":
            result.append([])
        elif word.isalpha():
            result[-1].append(word)
    return [sentence for sentence in result if sentence]


def parse_caption(text: str) -> tuple[list[Mention], list[tuple[int, str, int]], list[str]]:
    """(mentions, relations between mentions by index, backgrounds) that a caption states."""
    mentions: list[Mention] = []
    relations: list[tuple[int, str, int]] = []
    grounds: list[str] = []
    for sentence in sentences(text):
        start = len(mentions)
        pending: dict[str, str] = {}
        count, definite, predicate, denied = 1, False, False, False
        relation: str | None = None
        waiting_place: str | None = None
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
                    waiting_place = place
            elif word in _ATTRIBUTE:
                pending[_ATTRIBUTE[word]] = word
                i += 1
            elif word in _NUMBER:
                count, i = _NUMBER[word], i + 1
            elif word in _KIND and denied:
                # `there is no boat` claims nothing that the metrics count.
                pending, denied, i = {}, False, i + 1
            elif word in _KIND:
                mention = Mention(_KIND[word], pending, count, definite)
                if waiting_place:
                    mention.attributes["place"] = waiting_place
                mentions.append(mention)
                if relation and len(mentions) - start >= 2:
                    relations.append((len(mentions) - 2, relation, len(mentions) - 1))
                pending, count, definite, relation, waiting_place, predicate = {}, 1, False, None, None, False
                i += 1
            else:
                if word in BACKGROUNDS:
                    grounds.append(word)
                if word in ("is", "are"):
                    predicate = len(mentions) > start
                elif word in ("a", "an", "the", "and"):
                    # `the ball is red and the tree is green`: what followed the verb was said of the ball.
                    if predicate and pending:
                        _say_of(mentions[-1], pending)
                        pending, predicate = {}, False
                    definite = word == "the" if word != "and" else definite
                elif word in ("no", "not"):
                    denied = True
                i += 1
        # `the ball is red`: attributes left over belong to the last noun phrase.
        if pending and len(mentions) > start:
            _say_of(mentions[-1], pending)
    return mentions, relations, grounds


def _say_of(mention: Mention, attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        mention.attributes.setdefault(name, value)


@functools.lru_cache(maxsize=1024)
def facts(scene: Scene) -> tuple[tuple, ...]:
    """What there is to tell: every thing with its four attributes, counts above one, the background, and for each
    thing its relation to the nearest other one (either way round counts as telling it)."""
    found: list[tuple] = [("background",)]
    for i in range(len(scene.things)):
        found += [(what, i) for what in ("object", "colour", "size", "fill", "place")]
    found += [("count", kind) for kind in dict.fromkeys(t.kind for t in scene.things) if scene.count(kind) > 1]
    found += [("relation", *pair) for pair in sorted(_neighbours(scene))]
    return tuple(found)


def _neighbours(scene: Scene) -> set[tuple[int, int]]:
    def gap(a: Thing, b: Thing) -> int:
        ra, ca = divmod(PLACES.index(a.place), 3)
        rb, cb = divmod(PLACES.index(b.place), 3)
        return (ra - rb) ** 2 + (ca - cb) ** 2

    pairs = set()
    for i, thing in enumerate(scene.things):
        others = [(gap(thing, other), j) for j, other in enumerate(scene.things) if other.kind != thing.kind]
        if others:
            j = min(others)[1]
            pairs.add((min(i, j), max(i, j)))
    return pairs


def _bind(mention: Mention, scene: Scene, seen: set[int]) -> None:
    """Bind a mention to what it most charitably means: most attributes right, then for `a` those not yet named."""

    def right(i: int) -> int:
        return sum(getattr(scene.things[i], name) == value for name, value in mention.attributes.items())

    candidates = [i for i, thing in enumerate(scene.things) if thing.kind == mention.kind]
    candidates.sort(key=lambda i: (-right(i), (i in seen) != mention.definite, i))
    mention.things = tuple(candidates[: mention.count])
    mention.possible = tuple(i for i in candidates if right(i) == right(candidates[0]))


def check_caption(caption: str, scene: Scene) -> Verdict:
    """Judge every claim of a caption. A claim made twice counts once; a claim about an absent thing is false."""
    mentions, relations, grounds = parse_caption(caption)
    claims: dict[Assertion, bool] = {}
    told: set[tuple] = set()
    seen: set[int] = set()

    def claim(what: str, subject: str, value: str, true: bool, other: str = "") -> None:
        key = Assertion(what, subject, value, other)
        claims[key] = claims.get(key, False) or true

    for mention in mentions:
        _bind(mention, scene, seen)
        seen.update(mention.things)
        claim("object", mention.kind, mention.kind, bool(mention.things))
        told.update(("object", i) for i in mention.things)
        for name, value in mention.attributes.items():
            right = [i for i in mention.things if getattr(scene.things[i], name) == value]
            claim(name, mention.kind, value, bool(right) and len(right) == len(mention.things))
            told.update((name, i) for i in right)
        if mention.count > 1:
            true = scene.count(mention.kind) == mention.count
            claim("count", mention.kind, str(mention.count), true)
            if true:
                told.add(("count", mention.kind))
    for one, relation, two in relations:
        first, second = mentions[one], mentions[two]
        pairs = [
            (i, j)
            for i in first.possible
            for j in second.possible
            if i != j and holds(relation, scene.things[i], scene.things[j])
        ]
        claim("relation", first.kind, relation, bool(pairs), second.kind)
        told.update(("relation", min(p), max(p)) for p in pairs)
    for ground in grounds:
        claim("background", "background", ground, ground == scene.background)
        if ground == scene.background:
            told.add(("background",))
    known = facts(scene)
    return Verdict(claims, frozenset(told & set(known)), len(known))


def fit_score(caption: str, scene: Scene) -> float:
    """How well a caption fits a scene: true claims minus false ones."""
    verdict = check_caption(caption, scene)
    return sum(1 if true else -1 for true in verdict.claims.values())


def singles_out(caption: str, scene: Scene, others: Iterable[Scene]) -> bool:
    """Whether the caption fits its own scene strictly better than every other one of the bag."""
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
    """Share of the caption's sentences that the lab's grammar accepts, in [0, 1]; 0 for an empty caption."""
    found = sentences(caption)
    if not found:
        return 0.0
    return sum(bool(_SENTENCE.fullmatch("".join(_CLASS.get(w, "?") for w in s))) for s in found) / len(found)
