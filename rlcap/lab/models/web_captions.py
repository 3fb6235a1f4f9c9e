"""Writes captions as on the web: short, partial, and wrong in a stated share of their claims.

The base `web` of the lab learns to caption from them alone. Their authors remember the usual rather than look: they
assume usual attributes, places and backgrounds, name things that usually accompany the present ones, and make other
mistakes.
"""

from __future__ import annotations

import random
from dataclasses import replace

from rlcap.lab.world.language import (
    PLACE_PHRASES,
    describe_background,
    describe_count,
    describe_relation,
    describe_thing,
    noun_phrase,
    relation_between,
)
from rlcap.lab.world.scene import ATTRIBUTES, Scene, Thing, sample_thing
from rlcap.lab.world.vocabulary import BACKGROUNDS, CONFUSABLE, OPPOSITE, PLACES, THEMES, USUAL

WRONG_CLAIMS = 0.18
"""Share of false claims among the claims of web captions of ordinary scenes, within 0.02. It is a measured result of the
probabilities below, which a test compares with this value."""
ASSUMED = 0.5
"""Probability that the author replaces an unusual attribute by the usual one."""
MISTAKEN = 0.06
"""Probability of any other mistake about an attribute."""


def web_caption(scene: Scene, rng: random.Random) -> str:
    """Write a caption of one or two sentences that names one to three things with few attributes."""
    things = [remember(thing, rng) for thing in rng.sample(scene.things, rng.choice((1, 2, 2)))]
    if rng.random() < 0.12:
        things[-1] = _companion(scene, rng) or things[-1]
    phrases = [noun_phrase(thing, _few_attributes(rng)) for thing in things]
    if rng.random() < 0.3:
        phrases[0] += f" {PLACE_PHRASES[things[0].place]}"
    text = " and ".join(phrases)
    if rng.random() < 0.6:
        text = f"there is {text}"
    if rng.random() < 0.5:
        return f"{text}. {_second_sentence(scene, things, rng)}"
    return f"{text} on {_background(scene, rng)}." if rng.random() < 0.3 else f"{text}."


def remember(thing: Thing, rng: random.Random) -> Thing:
    """Return a thing as the author of a web caption remembers it: with usual attributes and some mistakes."""
    colour, size, fill, places = USUAL[thing.kind]
    for name, usual in (("colour", (colour,)), ("size", (size,)), ("fill", (fill,)), ("place", places)):
        values = PLACES if name == "place" else ATTRIBUTES[name]
        if getattr(thing, name) not in usual and rng.random() < ASSUMED:
            thing = replace(thing, **{name: rng.choice(usual)})
        elif rng.random() < MISTAKEN:
            thing = replace(thing, **{name: rng.choice(values)})
    return replace(thing, kind=CONFUSABLE[thing.kind]) if rng.random() < MISTAKEN / 2 else thing


def _few_attributes(rng: random.Random) -> list[str]:
    return [name for name, share in (("size", 0.12), ("fill", 0.15), ("colour", 0.6)) if rng.random() < share]


def _second_sentence(scene: Scene, things: list[Thing], rng: random.Random) -> str:
    """Write a sentence about the background, a count, a relation or another thing."""
    choice = rng.choice(("background", "count", "relation", "thing"))
    if choice == "count" and (repeated := [t.kind for t in scene.things if scene.count(t.kind) > 1]):
        kind = rng.choice(repeated)
        return describe_count(kind, rng.choice((2, 3)) if rng.random() < ASSUMED else scene.count(kind))
    if choice == "relation" and len(things) > 1 and things[0].kind != things[1].kind:
        if things[0].place == things[1].place:
            return describe_relation(things[0], rng.choice(list(OPPOSITE)), things[1])
        relation = relation_between(things[0], things[1], rng)
        return describe_relation(things[0], OPPOSITE[relation] if rng.random() < 0.25 else relation, things[1])
    if choice == "thing":
        return describe_thing(remember(rng.choice(scene.things), rng), _few_attributes(rng), rng)
    return describe_background(_background(scene, rng))


def _background(scene: Scene, rng: random.Random) -> str:
    """Return the background that the author names: with probability `ASSUMED`, one that is usual for the kinds."""
    present = {thing.kind for thing in scene.things}
    usual = [ground for kinds, ground in THEMES.values() if len(present & set(kinds)) >= 2]
    if usual and scene.background not in usual and rng.random() < ASSUMED:
        return rng.choice(usual)
    return rng.choice(BACKGROUNDS) if rng.random() < MISTAKEN else scene.background


def _companion(scene: Scene, rng: random.Random) -> Thing | None:
    """Return a thing of an absent kind that usually accompanies the present kinds, or None where there is no such kind."""
    present = {thing.kind for thing in scene.things}
    absent = [
        kind for kinds, _ in THEMES.values() if len(present & set(kinds)) >= 2 for kind in kinds if kind not in present
    ]
    return sample_thing(rng, rng.choice(absent), list(PLACES), habit=0.9) if absent else None
