"""What a text in the lab's language says of things, for oracles that see no scene: kinds, attributes, counts and backgrounds."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlcap.lab.world.language import NUMBERS, describe_background, describe_count, describe_thing
from rlcap.lab.world.scene import Thing
from rlcap.lab.world.truth import Mention, parse_caption

ATTRIBUTES = ("size", "fill", "colour", "place")


@dataclass(slots=True)
class SceneReading:
    """The things, counts, relations and backgrounds that texts state."""

    things: list[Mention] = field(default_factory=list)
    """Single things with the attributes that are stated."""
    counts: dict[str, int] = field(default_factory=dict)
    """Kind → stated number, the first one."""
    relations: list[tuple[str, str, str]] = field(default_factory=list)
    """(kind, relation, kind)."""
    grounds: list[str] = field(default_factory=list)
    """Stated backgrounds."""


def read_texts(texts: Iterable[str]) -> SceneReading:
    """Return what texts state. The same thing in two texts is two entries."""
    reading = SceneReading()
    for text in texts:
        mentions, relations, grounds = parse_caption(text)
        in_relation = {index for one, _, two in relations for index in (one, two)}
        for index, mention in enumerate(mentions):
            if mention.count > 1:
                reading.counts.setdefault(mention.kind, mention.count)
            elif index not in in_relation or mention.attributes:
                reading.things.append(mention)
        reading.relations += [(mentions[one].kind, relation, mentions[two].kind) for one, relation, two in relations]
        reading.grounds += grounds
    return reading


def describe_mention(mention: Mention) -> str:
    """Return a sentence that states a thing with its attributes and nothing else."""
    named = [name for name in ATTRIBUTES if name in mention.attributes]
    thing = Thing(mention.kind, *(mention.attributes.get(name, "") for name in ("colour", "size", "fill", "place")))
    return describe_thing(thing, named, _First())


def describe_rest(reading: SceneReading) -> list[str]:
    """Return the sentences of counts and of the first background."""
    counts = [describe_count(kind, count) for kind, count in reading.counts.items() if count in NUMBERS]
    return counts + [describe_background(ground) for ground in reading.grounds[:1]]


class _First(random.Random):
    """A random generator that always chooses the common wording, so that the same facts give the same sentence."""

    def random(self) -> float:
        return 0.0
