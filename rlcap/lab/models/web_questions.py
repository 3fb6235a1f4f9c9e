"""Asks questions with short answers about scenes, as visual question answering data sets do; some answers are wrong.

The base `web` of the lab learns what is in an image from them, and from its short captions. The questions are

* yes/no questions in the form of `rlcap.rewards.vqa_score`, each about one sentence that is true or false,
* open questions about one attribute, place, relation, count or background, and
* open questions about one thing: what it looks like, and what is at a place.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from rlcap.lab.models.language_model import IGNORED, Task
from rlcap.lab.models.web_captions import web_caption
from rlcap.lab.world.language import (
    INSTRUCTION,
    NUMBERS,
    PLACE_PHRASES,
    describe_background,
    describe_count,
    describe_relation,
    describe_thing,
    noun_phrase,
)
from rlcap.lab.world.questions import all_questions
from rlcap.lab.world.scene import ATTRIBUTES, Scene, Thing, sample_thing
from rlcap.lab.world.truth import check_caption, words
from rlcap.lab.world.vocabulary import BACKGROUNDS, KINDS, PLACES, RELATIONS, THEMES, USUAL
from rlcap.rewards.vqa_score import QUESTION

WRONG_ANSWERS = 0.09
"""Share of wrong answers. Of answers with several values, such as `a small plain red ball`, it is the share of values."""
OPENING = len(words(QUESTION.partition("{caption}")[0])) + 1
"""Tokens of a yes/no question before its sentence: its words and the quotation mark."""
CLAIMS = ("object", "colour", "size", "fill", "place", "relation", "count", "background")
"""Types of claims of the yes/no questions, with the names of `rlcap.lab.world.truth.Assertion`."""
CURRICULUM = {
    0.0: ("background",), 0.04: ("object",), 0.1: ("colour",), 0.2: ("fill", "size"), 0.3: ("place",),
    0.4: ("relation", "count"), 0.55: CLAIMS,
}  # fmt: skip
"""Progress of the training, in [0, 1) → types of claims that join. Half of the questions are about the latest ones."""
FURTHER_ATTRIBUTES = 0.3
"""Share of the attributes besides its claim that a sentence about a thing names."""
YES_NO = 6
"""Yes/no questions about an image in a training step."""
WORDS = (
    "does", "figure", "show", '"', "?", "please", "answer", "yes", "or", "what", "colour", "size", "which", "pattern",
    "where", "seen", "from", "how", "many", "one", "look", "like", "nothing",
)  # fmt: skip
"""Words of the questions and answers beyond the vocabulary of the lab."""


def web_tasks(scene: Scene, rng: random.Random, progress: float) -> list[Task]:
    """Draw the tasks about a scene from which the base `web` learns: a caption, and questions of each kind.

    The yes/no questions follow a curriculum, because of all types at once the model learns none. From its middle on,
    sentences about things also name further attributes.

    Args:
        scene: The scene.
        rng: The random generator.
        progress: The progress of the training, in [0, 1).
    """
    joined = [claims for start, claims in CURRICULUM.items() if progress >= start]
    share = FURTHER_ATTRIBUTES * min(1.0, max(0.0, 4 * progress - 1.6))
    one_open_question = rng.choice((short_question, appearance_question, region_question))
    return [
        Task(INSTRUCTION, web_caption(scene, rng)),
        *(
            yes_no_question(scene, rng, joined[-1] if rng.random() < 0.5 else sum(joined, ()), share)
            for _ in range(YES_NO)
        ),
        one_open_question(scene, rng),
    ]


def yes_no_question(
    scene: Scene, rng: random.Random, claims: Collection[str] = CLAIMS, share: float = FURTHER_ATTRIBUTES
) -> Task:
    """Draw a yes/no question about a true or, as often, a false sentence, with its answer.

    The answer comes with the opinion after each word of the sentence. Who answers wrongly overlooks the false word of a
    false sentence, or doubts any word of a true one.

    Args:
        scene: The scene.
        rng: The random generator.
        claims: The types of claims to choose from. Where the scene supports none of them, it is `background`.
        share: Share of the further attributes that a sentence about a thing names, in [0, 1].
    """
    is_true = rng.random() < 0.5
    what = rng.choice([what for what in supported_claims(scene) if what in claims] or ["background"])
    sentence = draw_sentence(scene, what, is_true, rng, share)
    says_yes = is_true != (rng.random() < WRONG_ANSWERS)
    parts = words(sentence)
    if says_yes:
        opinions = [1] * len(parts)
    elif is_true:
        doubted = rng.randrange(len(parts))
        opinions = [int(k < doubted) for k in range(len(parts))]
    else:
        opinions = [int(not check_caption(" ".join(parts[: k + 1]), scene).wrong) for k in range(len(parts))]
    return Task(ask(sentence), "yes" if says_yes else "no", (*[IGNORED] * OPENING, *opinions))


def ask(sentence: str) -> str:
    """Return the question of `vqa_score` about a sentence."""
    return QUESTION.replace("{caption}", sentence)


def short_question(scene: Scene, rng: random.Random) -> Task:
    """Draw a question about one attribute, place, relation, count or background."""
    candidates = [question for question in all_questions(scene, rng) if question[0] != "object"]
    _, question, right, wrong = rng.choice(candidates)
    return Task(question, rng.choice(wrong) if rng.random() < WRONG_ANSWERS else right)


def appearance_question(scene: Scene, rng: random.Random) -> Task:
    """Draw a question about the look and the place of a thing; of several of its kind, the answer is about any one."""
    thing = rng.choice(scene.things)
    seen = _misread(thing, rng)
    answer = f"{seen.size} {seen.fill} {seen.colour} {PLACE_PHRASES[seen.place]}"
    return Task(f"What does the {thing.kind} look like?", answer)


def region_question(scene: Scene, rng: random.Random) -> Task:
    """Draw a question about what is at a place; in a quarter of the draws, nothing is there."""
    taken = {thing.place: thing for thing in scene.things}
    place = rng.choice([place for place in PLACES if place not in taken] if rng.random() < 0.25 else list(taken))
    thing = taken.get(place)
    answer = noun_phrase(_misread(thing, rng), tuple(ATTRIBUTES)) if thing else "nothing"
    return Task(f"What is {PLACE_PHRASES[place]}?", answer)


def _misread(thing: Thing, rng: random.Random) -> Thing:
    """Return the thing with each of its attributes wrong with probability `WRONG_ANSWERS`."""
    for name, values in (*ATTRIBUTES.items(), ("place", PLACES)):
        if rng.random() < WRONG_ANSWERS:
            thing = replace(thing, **{name: rng.choice([v for v in values if v != getattr(thing, name)])})
    return thing


def supported_claims(scene: Scene) -> list[str]:
    """Return the types of claims about which a scene has both true and false sentences."""
    kinds = {thing.kind for thing in scene.things}
    missing = {"count"} if len(kinds) == len(scene.things) else {"relation"} if len(kinds) == 1 else set()
    return [what for what in CLAIMS if what not in missing]


def draw_sentence(scene: Scene, what: str, is_true: bool, rng: random.Random, share: float = FURTHER_ATTRIBUTES) -> str:
    """Draw a sentence whose claim of the given type is true or false of the scene; all its other claims are true.

    A false sentence about an absent kind is the exception, because its attributes are false too. In half of the draws,
    a false value is the usual one, if the right one is unusual. Where the things of the scene leave no such sentence, as
    a ball on each side of a box leaves no false relation, it is about the background.

    Args:
        scene: The scene.
        what: One of `supported_claims(scene)`.
        is_true: Whether the sentence is true.
        rng: The random generator.
        share: Share of the further attributes that a sentence about a thing names.
    """
    for _ in range(200):
        sentence = _write(scene, what, is_true, rng, share)
        false = {claim.what for claim in check_caption(sentence, scene).wrong}
        if not false if is_true else what in false and (what == "object" or len(false) == 1):
            return sentence
    return draw_sentence(scene, "background", is_true, rng)


def _write(scene: Scene, what: str, is_true: bool, rng: random.Random, share: float) -> str:
    """Write a sentence with a claim of the given type; by chance, it may not be false where it should."""
    if what == "background":
        return describe_background(scene.background if is_true else rng.choice(BACKGROUNDS))
    thing = rng.choice(scene.things)
    if what == "count":
        kind = thing.kind
        return describe_count(kind, max(2, scene.count(kind)) if is_true else rng.choice(list(NUMBERS)[:2]))
    if what == "relation":
        other = rng.choice([t for t in scene.things if t.kind != thing.kind])
        return describe_relation(thing, rng.choice(RELATIONS), other)
    names = [name for name in (*ATTRIBUTES, "place") if name == what or rng.random() < share]
    if what == "object":
        thing = thing if is_true else _absent_thing(scene, rng)
    elif not is_true:
        thing = replace(thing, **{what: _other_value(thing, what, rng)})
    return describe_thing(thing, names, rng)


def _absent_thing(scene: Scene, rng: random.Random) -> Thing:
    """Return a thing of an absent kind; in half of the draws, one that usually accompanies a present kind."""
    present = {thing.kind for thing in scene.things}
    related = [kind for kinds, _ in THEMES.values() if present & set(kinds) for kind in kinds if kind not in present]
    absent = [kind for kind in KINDS if kind not in present]
    return sample_thing(rng, rng.choice(related if related and rng.random() < 0.5 else absent), list(PLACES), habit=0.5)


def _other_value(thing: Thing, what: str, rng: random.Random) -> str:
    """Return another value of an attribute; in half of the draws, the usual one where the thing's own is unusual."""
    colour, size, fill, places = USUAL[thing.kind]
    usual = {"colour": (colour,), "size": (size,), "fill": (fill,), "place": places}[what]
    own, values = getattr(thing, what), PLACES if what == "place" else ATTRIBUTES[what]
    return rng.choice([v for v in (usual if own not in usual and rng.random() < 0.5 else values) if v != own])


def verification_set(scenes: Sequence[Scene], rng: random.Random) -> Iterator[tuple[int, str, str, bool]]:
    """Yield (index of the scene, type of the claim, question, whether the right answer is yes).

    Each scene has one true and one false sentence of each type that it supports.
    """
    for i, scene in enumerate(scenes):
        for what in supported_claims(scene):
            for is_true in (True, False):
                yield i, what, ask(draw_sentence(scene, what, is_true, rng)), is_true
