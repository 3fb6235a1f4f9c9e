r"""The lab's fuser: a judge backend that writes a paragraph by a template from what experts said, and sees no scene.

It stands in for a language model. Asked to fuse, it joins what the experts say of the same thing, and believes the expert that it is told
first where they differ, as a model does that is told to combine everything. Asked to correct sentences without support, it looks again,
leaves them out, and adds what at least `AGREE` experts say.

>>> statements = "- there is a red ball. (one)\n- there is a small ball. (two)\n- the background is sand. (two)"
>>> fuse({"statements": statements})
'there is a small red ball. the background is sand.'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rlcap.judge.backends.base import Completion, JudgeBackend, JudgeRequest
from rlcap.lab.oracles.scene_reading import ATTRIBUTES, SceneReading, describe_mention, describe_rest, read_texts
from rlcap.lab.world.language import RELATION_PHRASES, describe_background
from rlcap.lab.world.truth import Mention
from rlcap.scorers.text.sentences import split_sentences

AGREE = 2
"""Experts that must agree when sentences are corrected."""
_FIELD = re.compile(r"^<(\w+)>\n(.*?)\n</\1>$", re.DOTALL | re.MULTILINE)
_LINE = re.compile(r"^- (?P<text>.*) \((?P<source>\w+)(?:;[^()]*)?\)$", re.MULTILINE)


class TemplateFuser(JudgeBackend):
    """A judge backend for the fusion of `rlcap.fuse` on the lab. It reads the prompt alone."""

    name = "lab-template-fuser-3"
    is_deterministic = True

    async def complete(self, request: JudgeRequest) -> Completion:
        """Answer one request.

        Raises:
            ValueError: The prompt has no delimited part.
        """
        fields = {match[1]: match[2] for match in _FIELD.finditer(request.text)}
        if not fields:
            raise ValueError("the prompt needs delimited parts with statements of experts")
        return Completion(correct(fields) if "unsupported" in fields else fuse(fields))


def fuse(fields: Mapping[str, str]) -> str:
    """Return a paragraph of everything that the experts say, in the order of the prompt's parts."""
    readings = _read_sources("\n".join(fields.values()))
    merged = SceneReading()
    for reading in readings.values():
        taken: set[int] = set()
        for mention in reading.things:
            index = _find(mention, merged.things, taken)
            if index is None:
                index = len(merged.things)
                merged.things.append(Mention(mention.kind))
            taken.add(index)
            for name, value in mention.attributes.items():
                merged.things[index].attributes.setdefault(name, value)
        for kind, count in reading.counts.items():
            merged.counts.setdefault(kind, count)
        merged.relations += [relation for relation in reading.relations if relation not in merged.relations]
        merged.grounds += reading.grounds
    relations = [f"the {one} is {RELATION_PHRASES[relation]} the {two}." for one, relation, two in merged.relations]
    sentences = [*map(describe_mention, merged.things), *relations, *describe_rest(merged)]
    return " ".join(dict.fromkeys(sentences)) or "there is something."


def correct(fields: Mapping[str, str]) -> str:
    """Return the paragraph without its unsupported sentences, and with what `AGREE` experts say and it leaves out."""
    readings = list(_read_sources(fields["statements"]).values())
    unsupported = {line.removeprefix("- ") for line in fields["unsupported"].splitlines()}
    kept = [one for one in split_sentences(fields["paragraph"]) if one not in unsupported]
    stated = read_texts(kept)
    things = [thing for thing in agreed_things(readings) if not _is_stated(thing, stated.things)]
    sentences = [*kept, *map(describe_mention, things)]
    ground = _majority(reading.grounds[0] for reading in readings if reading.grounds)
    if ground is not None and not stated.grounds:
        sentences.append(describe_background(ground))
    return " ".join(dict.fromkeys(sentences)) or "there is something."


def agreed_things(readings: Sequence[SceneReading]) -> list[Mention]:
    """Return the things that at least `AGREE` experts mention, with the attributes on which that many agree.

    Things of one kind in one place are the same thing. Of the others, a thing belongs to the group of its kind, without a thing of its own
    expert, with which it has most attributes in common, where it has any in common.
    """
    groups: dict[tuple[str, str | None], dict[int, Mention]] = {}
    for expert, reading in enumerate(readings):
        for thing in reading.things:
            groups.setdefault((thing.kind, thing.attributes.get("place")), {}).setdefault(expert, thing)
    for key in [key for key, group in groups.items() if len(group) == 1]:
        if len(groups[key]) > 1:  # another thing has joined it
            continue
        ((expert, thing),) = groups[key].items()
        others = [
            other
            for other, group in groups.items()
            if other != key and other[0] == key[0] and expert not in group and _overlap(thing, group)
        ]
        if others:
            best = max(others, key=lambda other: (_overlap(thing, groups[other]), len(groups[other])))
            groups[best][expert] = groups.pop(key)[expert]
    agreed = []
    for (kind, _), group in groups.items():
        if len(group) >= AGREE:
            values = {name: _majority(one.attributes.get(name) for one in group.values()) for name in ATTRIBUTES}
            agreed.append(Mention(kind, {name: value for name, value in values.items() if value is not None}))
    return agreed


def _overlap(thing: Mention, group: Mapping[int, Mention]) -> int:
    """Return the most attributes that a thing has in common with a thing of a group."""
    return max(len(thing.attributes.items() & other.attributes.items()) for other in group.values())


def _is_stated(thing: Mention, stated: Sequence[Mention]) -> bool:
    """Return whether one of the stated things has the kind and all attributes of a thing."""
    return any(other.kind == thing.kind and thing.attributes.items() <= other.attributes.items() for other in stated)


def _read_sources(text: str) -> dict[str, SceneReading]:
    """Return what each expert says, by its name, in the order in which the prompt tells it."""
    texts: dict[str, list[str]] = {}
    for line in _LINE.finditer(text):
        texts.setdefault(line["source"], []).append(line["text"])
    return {source: read_texts(own) for source, own in texts.items()}


def _find(mention: Mention, things: list[Mention], taken: set[int]) -> int | None:
    """Return the index of the thing that a mention means, with the most equal attributes; None where it means a new one."""

    def equal(i: int) -> int:
        return sum(things[i].attributes.get(name) == value for name, value in mention.attributes.items())

    places = [
        i
        for i, thing in enumerate(things)
        if thing.kind == mention.kind
        and i not in taken
        and ("place" not in thing.attributes or thing.attributes["place"] == mention.attributes.get("place", thing.attributes["place"]))
    ]  # fmt: skip
    return max(places, key=equal, default=None)


def _majority(values: Iterable[str | None]) -> str | None:
    """Return the most frequent value, if at least `AGREE` experts say it."""
    counts = Counter(value for value in values if value is not None).most_common(1)
    return counts[0][0] if counts and counts[0][1] >= AGREE else None
