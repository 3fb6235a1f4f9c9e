"""English phrases in which a name of an object is no mention of that object.

    "baby elephant"        the baby is the elephant, and no person
    "passenger train"      no passenger is seen
    "a couple of zebras"   how many zebras there are; nor are "family of bears" and "crowd of kites" persons
    "home plate"           neither a home nor a plate
    "orange and white cat" a colour

They extend the double words of CHAIR (Rohrbach et al., EMNLP 2018), which covers "baby" and "adult" before eleven kinds
of animals, "passenger" before two vehicles, "toilet seat" and a few more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlcap.scorers.text.ngrams import tokenize

NO_OBJECT = (
    "train track", "train station", "train platform", "bus stop", "bus station", "bus shelter", "car park", "boat house",
    "home plate", "dog house", "dog park", "bird house", "bird feeder", "cat food", "dog food", "horse race", "chair lift",
    "ski lift", "ski slope", "ski resort", "ski pole", "ski boot", "ski lodge", "kite string", "table tennis", "table cloth",
    "table top", "bed room", "bath tub", "orange juice", "apple juice", "carrot cake", "pizza box", "cake stand", "book shelf",
    "book case", "book store", "bottle opener", "cow boy", "toilet paper", "baseball field", "baseball game",
    "baseball cap", "baseball uniform", "football field", "football game", "basketball court",
    "basketball hoop", "volleyball net", "soccer ball field", "ball park", "ball game", "ball field", "cup board", "bear skin",
    "mouse pad", "keyboard player", "sink hole", "elephant ear", "stuffed giraffe", "glass table", "seat belt",
    "mp3 player", "music player", "record player", "dvd player", "cd player", "media player", "dream catcher", "wind catcher",
    "water pitcher", "milk pitcher", "cake batter", "pancake batter",
)  # fmt: skip
"""Phrases that contain a name but mention no such object."""

COMPOUNDS = {
    "toilet seat": "toilet", "baseball player": "person", "football player": "person", "basketball player": "person",
    "tennis ball player": "person", "camera man": "person", "bow tie": "tie",
}  # fmt: skip
"""Phrase with two names → the one that it mentions."""

_ANIMALS = (
    "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub calf chick deer duckling fawn goat gorilla kangaroo lamb lion "
    "monkey ostrich pheasant pig rabbit rhino seal tiger turtle whale"
)
_VEHICLES = (
    "airplane bus train boat car truck rail airline jumbo vehicle van ship aircraft coach carriage ferry transport"
)
HEADS = {
    "baby": f"{_ANIMALS} blue grand carrot corn spinach tomato doll food crib carriage stroller bottle shower seat toy",
    "infant": _ANIMALS,
    "adult": _ANIMALS,
    "male": _ANIMALS,
    "female": _ANIMALS,
    "mother": _ANIMALS,
    "father": _ANIMALS,
    "mom": _ANIMALS,
    "passenger": f"{_VEHICLES} door window side section compartment cabin area terminal loading service",
    "tourist": f"{_VEHICLES} attraction area trap shop map",
    "driver": "side seat chair window door",
    "family": "room kitchen car van vehicle style",
    "child": "toy item bed room bedroom",
    "kid": "toy item bed room bedroom",
    "man": "room restroom bathroom urinal",
    "woman": "room restroom bathroom",
    "lady": "room restroom bathroom",
    "person": "food",
    "cook": "stove top oven",
    "pitcher": "of",
    "couple": "of dozen more",
}
"""Name in the singular → words and classes before which it only says of what kind they are."""
_BETWEEN = frozenset(
    tokenize(
        "black blue brown gray green grey grizzly large little mountain orange panda polar red small tabby tan white wild yellow young"
    )
)
"""Adjectives that may stand between such a name and its head."""
_COLLECTIVES = frozenset(("family", "crowd"))
"""Names that count the object that follows "of". Where none follows ("a family of four"), they mention a person."""
_DETERMINERS = frozenset(tokenize("a an the another one two three four some several other many"))
_VERBS = frozenset(("cook",))
"""Names that are verbs as well, and mention an object only after a determiner."""

COLOURS = frozenset({"orange"})
"""Names that are also colours: before another noun they mention no object."""
_COLOUR_WORDS = COLOURS | frozenset(
    tokenize("beige black blue brown gold gray green grey pink purple red silver tan white yellow")
)
_BEFORE_A_COLOUR = frozenset(("is", "are", "in", "bright", "dark", "light", "painted", "fluorescent", "neon"))
_AFTER_A_FRUIT = frozenset(
    tokenize(
        "a an the and or is are was were on in at of with by near next to from for beside behind under over that which lying sitting "
        "hanging slices slice together"
    )
)


def is_colour(words: Sequence[str], i: int) -> bool:
    """Return whether word `i` is a colour: "an orange cat", "orange and white fur", "the cat is orange".

    Args:
        words: lower-cased words, not in the singular: "oranges" are fruits.
        i: the position of a word.
    """
    if words[i] not in COLOURS:
        return False
    before, after = list(reversed(words[max(0, i - 2) : i])), words[i + 1 : i + 3]
    if before and before[0] in ("and", "or") and len(before) > 1:
        if before[1] in _COLOUR_WORDS:
            return True
    elif before and before[0] in _COLOUR_WORDS | _BEFORE_A_COLOUR:
        return True
    if after and after[0] in ("and", "or"):
        return len(after) > 1 and after[1] in _COLOUR_WORDS
    return bool(after) and after[0] not in _AFTER_A_FRUIT


def is_modifier(words: Sequence[str], singulars: Sequence[str], i: int, label: Callable[[int], str | None]) -> bool:
    """Return whether the name at position `i` says of what kind, or how many, another object is.

    Args:
        words: lower-cased words.
        singulars: the same words in the singular.
        i: the position of a name of one word.
        label: the class of the longest name that begins at a position, or None.
    """
    name = singulars[i]
    if name in _VERBS and (i == 0 or words[i - 1] not in _DETERMINERS):
        return True
    following = i + 1
    if name in _COLLECTIVES and words[following : following + 1] == ["of"]:
        following = _skip(words, following + 1)
        return following < len(words) and label(following) is not None
    if name == "couple" and following < len(words):  # "a couple glasses", but not "a couple skis"
        plural = words[following] != singulars[following] and words[following] != label(following)
        if plural and label(following) is not None:
            return True
    if name not in HEADS:
        return False
    heads = HEADS[name].split()
    if following < len(words) and singulars[following] in heads:  # also where the head is a colour
        return True
    following = _skip(words, following)
    while following < len(words) and words[following] in ("and", "or"):  # "adult and baby elephants"
        other = _skip(words, following + 1)
        if other >= len(words) or words[other] not in HEADS:
            return False
        following = _skip(words, other + 1)
    return following < len(words) and (singulars[following] in heads or label(following) in heads)


def _skip(words: Sequence[str], i: int) -> int:
    """Return the position of the first word from `i` on that is no adjective that may stand between."""
    while i < len(words) and words[i] in _BETWEEN:
        i += 1
    return i
