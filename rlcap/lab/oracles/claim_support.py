"""Support by claims: which experts say everything that a sentence of the lab's language claims. It sees no scene.

It stands in for an NLI model that makes no errors. A user's own support has the same form.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlcap.experts.statement import Statement
from rlcap.fuse.support import Provenance, Support
from rlcap.lab.oracles.scene_reading import SceneReading, read_texts
from rlcap.lab.world.scene import Thing, holds
from rlcap.lab.world.truth import Mention


class ClaimSupport(Support):
    """Compares the claims of sentences with those of statements, one by one."""

    def judge(
        self, paragraphs: Sequence[Sequence[str]], statements: Sequence[Sequence[Statement]]
    ) -> list[list[Provenance]]:
        """See `rlcap.fuse.support.Support.judge`. A sentence without a claim is supported by nothing."""
        return [
            [_judge(read_texts([sentence]), told) for sentence in sentences]
            for sentences, told in zip(paragraphs, statements, strict=True)
        ]


def _judge(sentence: SceneReading, told: Sequence[Statement]) -> Provenance:
    readings = [read_texts(one.text for one in told if one.source == name) for name in {one.source for one in told}]
    votes = [
        *(_votes(mention, readings) for mention in sentence.things),
        *(sum(_has_count(reading, *count) for reading in readings) for count in sentence.counts.items()),
        *(
            sum(triple in reading.relations or _relates(reading, *triple) for reading in readings)
            for triple in sentence.relations
        ),
        *(sum(ground in reading.grounds for reading in readings) for ground in sentence.grounds),
    ]
    statements = tuple(i for i, one in enumerate(told) if _shares(read_texts([one.text]), sentence))
    return Provenance(statements, min(votes, default=0))


def _votes(mention: Mention, readings: Sequence[SceneReading]) -> int:
    """Return how many experts stand behind the weakest claim about a thing.

    Each expert tells the attributes of the thing of that kind that resembles the mention most.
    """
    attributes = mention.attributes.items()
    alike = [[thing for thing in reading.things if thing.kind == mention.kind] for reading in readings]
    best = [max(own, key=lambda thing: len(attributes & thing.attributes.items())) for own in alike if own]
    return min([len(best), *(sum(claim in thing.attributes.items() for thing in best) for claim in attributes)])


def _has_count(reading: SceneReading, kind: str, count: int) -> bool:
    return reading.counts.get(kind) == count or sum(thing.kind == kind for thing in reading.things) == count


def _relates(reading: SceneReading, one: str, relation: str, two: str) -> bool:
    """Return whether the places of two things of a reading give the relation."""
    placed = [(thing.kind, thing.attributes["place"]) for thing in reading.things if "place" in thing.attributes]
    return any(
        holds(relation, Thing(a, "", "", "", first), Thing(b, "", "", "", second))
        for a, first in placed
        for b, second in placed
        if (a, b) == (one, two) and first != second
    )


def _shares(statement: SceneReading, sentence: SceneReading) -> bool:
    """Return whether a statement says a part of a sentence and contradicts no attribute of it."""
    for mention in sentence.things:
        for thing in statement.things:
            known = mention.attributes.keys() & thing.attributes.keys()
            if thing.kind == mention.kind and all(mention.attributes[name] == thing.attributes[name] for name in known):
                return True
    return bool(
        set(sentence.grounds) & set(statement.grounds)
        or set(sentence.relations) & set(statement.relations)
        or sentence.counts.items() & statement.counts.items()
    )
