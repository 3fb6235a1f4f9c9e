"""Multiple-choice questions about a scene, for the reward `rlcap.rewards.caption_qa:CaptionQa`.

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

MAX_WRONG_OPTIONS = 3
"""Wrong options per question; there are fewer where the lab has no more words of that type."""
ATTRIBUTE_QUESTIONS = {"colour": "What colour", "size": "What size", "fill": "Which pattern"}
"""Attribute → the beginning of a question about it."""
COUNT_WORDS = {1: "one", **NUMBERS}
"""Count → its word."""


def questions(scene: Scene, seed: int = 0, count: int = 5) -> list[dict]:
    """Return up to `count` different questions in the form of `meta["questions"]`, of as many types as possible.

    The questions depend only on the arguments. Each question has one right answer: for a kind that occurs several
    times, the only question is how many there are. Wrong options are plausible: first the usual value for the kind or
    the kind with which a weak detector confuses it, then other values.
    """
    rng = random.Random(f"questions/{seed}/{json.dumps(scene.to_json(), sort_keys=True)}")
    by_type: dict[str, list[dict]] = {}
    for question_type, question, answer, wrong in all_questions(scene, rng):
        options = [answer, *list(dict.fromkeys(wrong))[:MAX_WRONG_OPTIONS]]
        rng.shuffle(options)
        by_type.setdefault(question_type, []).append({"question": question, "options": options, "answer": answer})
    for candidates in by_type.values():
        rng.shuffle(candidates)
    chosen: list[dict] = []
    while len(chosen) < count and any(by_type.values()):
        remaining_types = [question_type for question_type, candidates in by_type.items() if candidates]
        rng.shuffle(remaining_types)
        chosen += [by_type[question_type].pop() for question_type in remaining_types]
    return chosen[:count]


def questions_for_sample(sample: Sample) -> list[dict]:
    """Return the questions about a sample of the lab.

    Raises:
        InputError: The sample has no scene.
    """
    return questions(scene_of(sample))


def all_questions(scene: Scene, rng: random.Random) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield (type, question, answer, wrong options), with the most plausible wrong options first."""
    single = [thing for thing in scene.things if scene.count(thing.kind) == 1]
    grounds = [ground for ground in BACKGROUNDS if ground != scene.background]
    yield "background", "What is the background?", scene.background, rng.sample(grounds, len(grounds))
    present = list(dict.fromkeys(thing.kind for thing in scene.things))
    absent = [kind for kind in KINDS if kind not in present]
    for kind in present:
        likely = [CONFUSABLE[kind]] if CONFUSABLE[kind] in absent else []
        yield (
            "object",
            "Which of these is there?",
            article(kind),
            [article(k) for k in [*likely, *_shuffled(absent, rng)]],
        )
        if scene.count(kind) > 1:
            amount = COUNT_WORDS[scene.count(kind)]
            others = sorted(
                (n for n in COUNT_WORDS if COUNT_WORDS[n] != amount), key=lambda n: abs(n - scene.count(kind))
            )
            yield "count", f"How many {PLURALS[kind]} are there?", amount, [COUNT_WORDS[n] for n in others]
    for thing in single:
        colour, size, fill, _ = USUAL[thing.kind]
        usual = {"colour": colour, "size": size, "fill": fill}
        for name, values in ATTRIBUTES.items():
            likely_first = [usual[name], *_shuffled(values, rng)]
            value = getattr(thing, name)
            wrong = [v for v in likely_first if v != value]
            yield name, f"{ATTRIBUTE_QUESTIONS[name]} is the {thing.kind}?", value, wrong
        places = [p for p in [*USUAL[thing.kind][3], *_shuffled(PLACES, rng)] if p != thing.place]
        yield "place", f"Where is the {thing.kind}?", PLACE_PHRASES[thing.place], [PLACE_PHRASES[p] for p in places]
        for other in single:
            if other is not thing:
                yield from _relation_question(thing, other, rng)


def _relation_question(first: Thing, second: Thing, rng: random.Random) -> Iterator[tuple[str, str, str, list[str]]]:
    true = [relation for relation in RELATIONS if holds(relation, first, second)]
    wrong = [RELATION_PHRASES[relation] for relation in RELATIONS if relation not in true]
    question = f"Where is the {first.kind}, seen from the {second.kind}?"
    yield "relation", question, RELATION_PHRASES[rng.choice(true)], wrong


def _shuffled(values: tuple[str, ...] | list[str], rng: random.Random) -> list[str]:
    return rng.sample(list(values), len(values))
