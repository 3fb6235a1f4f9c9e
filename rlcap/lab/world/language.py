"""Tells a scene in the lab's language: sentences of facts, short human-like references, whole paragraphs.

Everything here is a pure function of its arguments and a `random.Random`. `rlcap.lab.world.truth` reads the language back.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection

from rlcap.lab.world.scene import Scene, Thing, holds
from rlcap.lab.world.vocabulary import BACKGROUNDS, COLOURS, FILLS, KINDS, RELATIONS, SIZES

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
PLURALS = {kind: {"box": "boxes", "fish": "fish"}.get(kind, kind + "s") for kind in KINDS}
PLACE_PHRASES = {
    "top left": "in the top left corner", "top": "at the top", "top right": "in the top right corner",
    "left": "on the left side", "middle": "in the middle", "right": "on the right side",
    "bottom left": "in the bottom left corner", "bottom": "at the bottom", "bottom right": "in the bottom right corner",
}  # fmt: skip
RELATION_PHRASES = {"left of": "to the left of", "right of": "to the right of", "above": "above", "below": "below"}
HEDGES = ("maybe", "perhaps", "possibly", "probably")
INSTRUCTION = "describe the image in detail ."
_OTHER_WORDS = [
    "a",
    "an",
    "the",
    "there",
    "is",
    "are",
    "this",
    "image",
    "picture",
    "shows",
    "with",
    "and",
    "on",
    "it",
    "in",
    "at",
    "to",
    "of",
    "near",
    "background",
    "scene",
    "corner",
    "side",
    "top",
    "bottom",
    "left",
    "right",
    "middle",
    "above",
    "below",
    "no",
    "not",
    "something",
    "object",
    "objects",
]


def vocabulary() -> list[str]:
    """Every word and mark of the language, in a fixed order: the tokenizers are built from it."""
    words = [*_OTHER_WORDS, *KINDS, *(p for k, p in PLURALS.items() if p != k), *COLOURS, *SIZES, *FILLS, *BACKGROUNDS]
    words += [*NUMBERS.values(), *HEDGES, *INSTRUCTION.split(), ".", ",", ":", "user", "assistant"]
    return list(dict.fromkeys(words))


def article(words: str) -> str:
    """`a` or `an` before `words`."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def noun_phrase(thing: Thing, attributes: Collection[str] = (), determiner: str = "a") -> str:
    """`a large striped red ball`: size, fill, colour in that order, those named in `attributes`.

    A plain fill is said aloud as any other. `determiner` is `a` or `the`.
    """
    words = [getattr(thing, a) for a in ("size", "fill", "colour") if a in attributes] + [thing.kind]
    text = " ".join(words)
    return article(text) if determiner == "a" else f"{determiner} {text}"


def describe_thing(thing: Thing, attributes: Collection[str], rng: random.Random) -> str:
    """A sentence of one thing; `attributes` may include `place`."""
    phrase = noun_phrase(thing, attributes)
    if "place" not in attributes:
        return f"there is {phrase}."
    place = PLACE_PHRASES[thing.place]
    return f"there is {phrase} {place}." if rng.random() < 0.8 else f"{phrase} is {place}."


def describe_relation(first: Thing, relation: str, second: Thing, attributes: Collection[str] = ()) -> str:
    """`the ball is to the left of the boat.`"""
    one, two = noun_phrase(first, attributes, "the"), noun_phrase(second, attributes, "the")
    return f"{one} is {RELATION_PHRASES[relation]} {two}."


def describe_count(kind: str, count: int) -> str:
    """`there are two boats.`; `count` is 2 to 5."""
    return f"there are {NUMBERS[count]} {PLURALS[kind]}."


def describe_background(background: str) -> str:
    return f"the background is {background}."


def relation_between(first: Thing, second: Thing, rng: random.Random) -> str:
    """One of the true relations from `first` to `second`."""
    return rng.choice([r for r in RELATIONS if holds(r, first, second)])


def reading_order(scene: Scene) -> list[Thing]:
    """Things from the top left to the bottom right."""
    from rlcap.lab.world.vocabulary import PLACES

    return sorted(scene.things, key=lambda thing: PLACES.index(thing.place))


def describe_scene(scene: Scene, rng: random.Random) -> str:
    """A paragraph of everything: each thing with all attributes, counts, the background, one relation a pair in order."""
    things = reading_order(scene)
    sentences = [describe_thing(t, ("size", "fill", "colour", "place"), rng) for t in things]
    sentences += [
        describe_count(k, scene.count(k)) for k in dict.fromkeys(t.kind for t in things) if scene.count(k) > 1
    ]
    for first, second in itertools.pairwise(things):
        if first.kind != second.kind:
            sentences.append(describe_relation(first, relation_between(first, second, rng), second))
    return " ".join([*sentences, describe_background(scene.background)])


def sample_reference(scene: Scene, rng: random.Random) -> str:
    """A short human-like caption: true, and of a part of the scene only."""
    things = list(scene.things)
    rng.shuffle(things)

    def some(p_size: float = 0.35, p_fill: float = 0.45, p_colour: float = 0.85) -> list[str]:
        return [a for a, p in (("size", p_size), ("fill", p_fill), ("colour", p_colour)) if rng.random() < p]

    repeated = [k for k in dict.fromkeys(t.kind for t in things) if scene.count(k) > 1]
    one, two = things[0], things[1]
    style = rng.random()
    if repeated and style < 0.3:
        kind = rng.choice(repeated)
        other = next((t for t in things if t.kind != kind), None)
        text = f"{NUMBERS[scene.count(kind)]} {PLURALS[kind]}"
        text += f" and {noun_phrase(other, some())}" if other and rng.random() < 0.7 else ""
    elif style < 0.5:
        text = f"{noun_phrase(one, some())} {PLACE_PHRASES[one.place]}"
        text += f" and {noun_phrase(two, some())}" if rng.random() < 0.6 else ""
    elif style < 0.72 and one.kind != two.kind:
        text = (
            f"{noun_phrase(one, some())} {RELATION_PHRASES[relation_between(one, two, rng)]} {noun_phrase(two, some())}"
        )
    else:
        text = " and ".join(noun_phrase(t, some()) for t in things[: rng.choice((2, 2, 3))])
    return f"{text} on {scene.background}." if rng.random() < 0.35 else f"{text}."


def sample_references(scene: Scene, rng: random.Random, count: int = 5) -> tuple[str, ...]:
    """`count` different references, as five annotators would write them."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[sample_reference(scene, rng)] = None
    return tuple(found)
