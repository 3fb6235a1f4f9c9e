"""Describes scenes in the language of the lab: sentences about facts, short human-like references, and paragraphs.

All functions are pure functions of their arguments and a `random.Random`. `rlcap.lab.world.truth` parses the language.
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
    """Return every word and punctuation mark of the language, in a fixed order, from which the tokenizers are built."""
    words = [*_OTHER_WORDS, *KINDS, *(p for k, p in PLURALS.items() if p != k), *COLOURS, *SIZES, *FILLS, *BACKGROUNDS]
    words += [*NUMBERS.values(), *HEDGES, *INSTRUCTION.split(), ".", ",", ":", "user", "assistant"]
    return list(dict.fromkeys(words))


def article(words: str) -> str:
    """Return `words` with `a` or `an` before them."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def noun_phrase(thing: Thing, attributes: Collection[str] = (), determiner: str = "a") -> str:
    """Return a noun phrase such as `a large striped red ball`.

    It names those of size, fill and colour that are in `attributes`, in this order. A plain fill is named like any
    other. `determiner` is `a` or `the`.
    """
    words = [getattr(thing, a) for a in ("size", "fill", "colour") if a in attributes] + [thing.kind]
    text = " ".join(words)
    return article(text) if determiner == "a" else f"{determiner} {text}"


def describe_thing(thing: Thing, attributes: Collection[str], rng: random.Random) -> str:
    """Return a sentence about a thing; `attributes` may include `place`."""
    phrase = noun_phrase(thing, attributes)
    if "place" not in attributes:
        return f"there is {phrase}."
    place = PLACE_PHRASES[thing.place]
    return f"there is {phrase} {place}." if rng.random() < 0.8 else f"{phrase} is {place}."


def describe_relation(first: Thing, relation: str, second: Thing, attributes: Collection[str] = ()) -> str:
    """Return a sentence that states a relation, such as `the ball is above the boat`."""
    one, two = noun_phrase(first, attributes, "the"), noun_phrase(second, attributes, "the")
    return f"{one} is {RELATION_PHRASES[relation]} {two}."


def describe_count(kind: str, count: int) -> str:
    """Return a sentence that states a count, such as `there are two boats`; `count` is 2 to 5."""
    return f"there are {NUMBERS[count]} {PLURALS[kind]}."


def describe_background(background: str) -> str:
    """Return the sentence that names the background."""
    return f"the background is {background}."


def relation_between(first: Thing, second: Thing, rng: random.Random) -> str:
    """Choose one of the true relations from `first` to `second`."""
    return rng.choice([r for r in RELATIONS if holds(r, first, second)])


def reading_order(scene: Scene) -> list[Thing]:
    """Return the things of a scene from the top left to the bottom right."""
    from rlcap.lab.world.vocabulary import PLACES

    return sorted(scene.things, key=lambda thing: PLACES.index(thing.place))


def describe_scene(scene: Scene, rng: random.Random) -> str:
    """Describe a whole scene in a paragraph.

    It contains each thing with all its attributes, the counts, one relation between each pair of consecutive things,
    and the background.
    """
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
    """Write a short human-like caption, which is true and describes only a part of the scene."""
    things = list(scene.things)
    rng.shuffle(things)

    def sample_attributes(p_size: float = 0.35, p_fill: float = 0.45, p_colour: float = 0.85) -> list[str]:
        return [a for a, p in (("size", p_size), ("fill", p_fill), ("colour", p_colour)) if rng.random() < p]

    repeated = [k for k in dict.fromkeys(t.kind for t in things) if scene.count(k) > 1]
    one, two = things[0], things[1]
    style = rng.random()
    if repeated and style < 0.3:
        kind = rng.choice(repeated)
        other = next((t for t in things if t.kind != kind), None)
        text = f"{NUMBERS[scene.count(kind)]} {PLURALS[kind]}"
        text += f" and {noun_phrase(other, sample_attributes())}" if other and rng.random() < 0.7 else ""
    elif style < 0.5:
        text = f"{noun_phrase(one, sample_attributes())} {PLACE_PHRASES[one.place]}"
        text += f" and {noun_phrase(two, sample_attributes())}" if rng.random() < 0.6 else ""
    elif style < 0.72 and one.kind != two.kind:
        text = (
            f"{noun_phrase(one, sample_attributes())} {RELATION_PHRASES[relation_between(one, two, rng)]} "
            f"{noun_phrase(two, sample_attributes())}"
        )
    else:
        text = " and ".join(noun_phrase(t, sample_attributes()) for t in things[: rng.choice((2, 2, 3))])
    return f"{text} on {scene.background}." if rng.random() < 0.35 else f"{text}."


def sample_references(scene: Scene, rng: random.Random, count: int = 5) -> tuple[str, ...]:
    """Write `count` different references, as different annotators would write them."""
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[sample_reference(scene, rng)] = None
    return tuple(texts)
