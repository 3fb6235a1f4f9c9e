"""Captions with one wrong word, by kind: an object, an attribute, a count, a place, a relation, an action.

    for foil in foils("Two black dogs run on the beach.", references):
        foil.kind, foil.text          # ("count", "Three black dogs run on the beach."), …

The wrong word occurs in no reference, and neither does any other word of its set (`street` for `road` is no foil). The
choice depends on the texts alone. A word is replaced by a word of the same form, and `a` becomes `an` where needed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SETS: Mapping[str, tuple[str, ...]] = {
    "object": (
        "man men guy boy boys person people woman women girl girls child children kid kids player toddler baby",
        "dog dogs puppy", "cat cats kitten", "horse horses", "bird birds", "cow cows", "elephant elephants", "zebra zebras",
        "bicycle bike bikes", "car cars", "bus buses", "train trains", "truck trucks", "boat boats", "motorcycle motorcycles",
        "ball balls", "frisbee", "skateboard", "surfboard", "kite kites", "umbrella umbrellas", "hat cap", "shirt jacket",
        "pizza", "cake", "sandwich", "banana bananas", "chair chairs", "couch sofa", "bed", "table tables", "laptop", "phone",
        "bench", "toilet", "guitar", "camera", "stick", "rope", "bottle bottles", "clock", "fence", "ladder",
    ),
    "attribute": (
        "red", "blue", "green", "yellow", "black", "white", "brown", "orange", "pink", "purple",
        "young little small", "old elderly", "large big huge", "tiny", "wooden", "metal", "striped", "empty", "wet", "dirty",
    ),
    "count": ("two both pair couple", "three", "four", "five", "six", "several many"),
    "place": (
        "beach sand shore", "street road", "field grass grassy", "snow snowy", "mountain mountains", "forest woods",
        "kitchen", "bathroom", "bedroom", "pool", "ocean sea waves", "lake river", "desert", "stage", "restaurant",
        "park", "city", "store", "parking",
    ),
    "relation": ("on", "under beneath", "behind", "above", "inside"),
    "action": (
        "running runs", "walking walks", "sitting sits", "standing stands", "jumping jumps leaping", "sleeping sleeps",
        "swimming swims", "eating eats", "climbing climbs", "riding rides", "holding holds", "flying flies", "throwing throws",
        "dancing dances", "reading reads",
    ),
}  # fmt: skip
"""Kind → sets of words. Words of one set may mean the same thing; words of two sets of a kind do not."""
_ARTICLE = re.compile(r"\b[Aa]n?\s+$")
_IRREGULAR = ("men", "women", "children", "people", "kids")


@dataclass(frozen=True, slots=True)
class Foil:
    """A caption with one word replaced."""

    kind: str
    text: str
    was: str
    now: str


def form(kind: str, word: str) -> str:
    """Return what a word and its replacement must have in common: the plural, or the ending of a verb."""
    if kind == "action":
        return "ing" if word.endswith("ing") else "s"
    if kind == "object":
        return "s" if word in _IRREGULAR or (word.endswith("s") and word not in ("bus",)) else ""
    return ""


def foils(caption: str, references: Sequence[str]) -> list[Foil]:
    """Return at most one foil for each kind, in the order of `SETS`.

    Kinds without a word in the caption are left out.
    """
    known_words = set(re.findall(r"[a-z]+", " ".join((caption, *references)).lower()))
    made = []
    for kind, groups in SETS.items():
        rng = random.Random(f"{kind} {caption}")
        sets = [group.split() for group in groups]
        set_of = {word: i for i, group in enumerate(sets) for word in group}
        places = [m for m in re.finditer(r"[A-Za-z]+", caption) if m.group().lower() in set_of]
        if not places:
            continue
        place = rng.choice(places)
        old_word = place.group().lower()
        candidates = [
            word
            for i, group in enumerate(sets)
            if i != set_of[old_word] and not known_words & set(group)
            for word in group
            if form(kind, word) == form(kind, old_word)
        ]
        if candidates:
            new_word = rng.choice(candidates)
            cased = new_word.capitalize() if place.group()[0].isupper() else new_word
            before = _ARTICLE.sub(
                lambda made, new_word=new_word: _article(made.group(), new_word), caption[: place.start()]
            )
            made.append(Foil(kind, before + cased + caption[place.end() :], old_word, new_word))
    return made


def _article(old: str, word: str) -> str:
    """Return a or an as the word needs it, with the capital letter and the space of the old article."""
    return old[0] + ("n" if word[0] in "aeiou" else "") + old.lstrip("aAnN")
