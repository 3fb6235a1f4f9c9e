"""Multiple-choice questions about a scene, as one who sees it would set them: what `rlcap.rewards.caption_qa:CaptionQa` asks.

>>> import random
>>> from rlcap.lab.world.scene import sample_scene
>>> questions(sample_scene(random.Random(0)))[0]["answer"] in questions(sample_scene(random.Random(0)))[0]["options"]
True
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from rlcap.lab.world.language import NUMBERS, PLACE_PHRASES, PLURALS, RELATION_PHRASES, article
from rlcap.lab.world.scene import ATTRIBUTES, Scene, Thing, holds, scene_of
from rlcap.lab.world.vocabulary import BACKGROUNDS, CONFUSABLE, KINDS, PLACES, RELATIONS, USUAL
from rlcap.types import Sample

MOST_WRONG = 3
"""Wrong options of a question; there are fewer where the lab has no more words of that sort."""
ATTRIBUTE_QUESTIONS = {"colour": "What colour", "size": "What size", "fill": "Which pattern"}
COUNT_WORDS = {1: "one", **NUMBERS}


def questions(scene: Scene, seed: int = 0, count: int = 5) -> list[dict]:
    """Up to `count` questions as `meta["questions"]` has them, no two alike, of as many sorts as there are.

    A pure function of its arguments. Each has one right answer: things of which there are several are counted, not asked
    about. Wrong options are plausible: what is usual for the kind, what a weak detector takes it for, then others.
    """
    rng = random.Random(f"questions/{seed}/{json.dumps(scene.to_json(), sort_keys=True)}")
    sorts: dict[str, list[dict]] = {}
    for sort, question, answer, wrong in _all(scene, rng):
        options = [answer, *list(dict.fromkeys(wrong))[:MOST_WRONG]]
        rng.shuffle(options)
        sorts.setdefault(sort, []).append({"question": question, "options": options, "answer": answer})
    for made in sorts.values():
        rng.shuffle(made)
    found: list[dict] = []
    while len(found) < count and any(sorts.values()):
        ready = [sort for sort, made in sorts.items() if made]
        rng.shuffle(ready)
        found += [sorts[sort].pop() for sort in ready]
    return found[:count]


def questions_for_sample(sample: Sample) -> list[dict]:
    """The questions about a sample of the lab. InputError for one without a scene."""
    return questions(scene_of(sample))


def _all(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str, str, list[str]]]:
    """(sort, question, answer, wrong options, the most plausible first)."""
    single = [thing for thing in scene.things if scene.count(thing.kind) == 1]
    grounds = [ground for ground in BACKGROUNDS if ground != scene.background]
    yield "background", "What is the background?", scene.background, rng.sample(grounds, len(grounds))
    present = list(dict.fromkeys(thing.kind for thing in scene.things))
    absent = [kind for kind in KINDS if kind not in present]
    for kind in present:
        likely = [CONFUSABLE[kind]] if CONFUSABLE[kind] in absent else []
        yield "object", "Which of these is there?", article(kind), [article(k) for k in [*likely, *_mixed(absent, rng)]]
        if scene.count(kind) > 1:
            amount = COUNT_WORDS[scene.count(kind)]
            others = sorted(
                (n for n in COUNT_WORDS if COUNT_WORDS[n] != amount), key=lambda n: abs(n - scene.count(kind))
            )
            yield "count", f"How many {PLURALS[kind]} are there?", amount, [COUNT_WORDS[n] for n in others]
    for thing in single:
        for name, values in ATTRIBUTES.items():
            usual = USUAL[thing.kind][("colour", "size", "fill").index(name)]
            others = [usual, *_mixed(values, rng)]
            value = getattr(thing, name)
            yield name, f"{ATTRIBUTE_QUESTIONS[name]} is the {thing.kind}?", value, [v for v in others if v != value]
        places = [p for p in [*USUAL[thing.kind][3], *_mixed(PLACES, rng)] if p != thing.place]
        yield "place", f"Where is the {thing.kind}?", PLACE_PHRASES[thing.place], [PLACE_PHRASES[p] for p in places]
        for other in single:
            if other is not thing:
                yield from _relation(thing, other, rng)


def _relation(first: Thing, second: Thing, rng: random.Random) -> Iterator[tuple[str, str, str, list[str]]]:
    true = [relation for relation in RELATIONS if holds(relation, first, second)]
    wrong = [RELATION_PHRASES[relation] for relation in RELATIONS if relation not in true]
    question = f"Where is the {first.kind}, seen from the {second.kind}?"
    yield "relation", question, RELATION_PHRASES[rng.choice(true)], wrong


def _mixed(values: tuple[str, ...] | list[str], rng: random.Random) -> list[str]:
    return rng.sample(list(values), len(values))
