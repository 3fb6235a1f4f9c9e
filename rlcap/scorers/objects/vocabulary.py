"""Objects that a text mentions, found with a vocabulary of names, without a parser or a model.

    vocabulary = Vocabulary.coco()          # or .read("synonyms.txt"), or Vocabulary({"cup": ["cup", "mug"]})
    vocabulary.mentions("Two men on a train track watch a hot dog stand.")      # ["person", "hot dog"]

The longest name at each position wins, so that "hot dog" is not a dog. Phrases in which a name is no mention of its
object ("train track", "baby elephant", "a couple of zebras") are those of `rlcap.scorers.objects.readings`. Plurals are
folded into singulars. Errors that need an understanding of the text remain: the two meanings of "a bat", or "she ties
her hair".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache

from rlcap.io.text import read_lines
from rlcap.scorers.objects.readings import COMPOUNDS, NO_OBJECT, is_colour, is_modifier
from rlcap.scorers.text.ngrams import tokenize

COCO_80: Mapping[str, str] = {
    "person": "people human man men woman women boy girl child children kid baby toddler infant adult lady gentleman guy "
    "teenager teen player skier surfer snowboarder skateboarder skater rider cyclist bicyclist biker motorcyclist batter "
    "pitcher catcher umpire goalie swimmer pedestrian passenger driver worker chef cook waiter waitress bride groom couple "
    "crowd family officer policeman policewoman firefighter soldier farmer fisherman cowboy mother father mom dad son "
    "daughter brother sister friend student teacher spectator bystander tourist shopper villager "
    "male female cop baker doctor traveler traveller sailor nurse",
    "bicycle": "bike cycle tricycle unicycle pushbike",
    "car": "automobile van minivan sedan suv hatchback coupe convertible taxi cab jeep limousine limo",
    "motorcycle": "motorbike scooter moped motor_bike motor_cycle dirt_bike",
    "airplane": "plane aeroplane aircraft jet airliner jetliner biplane seaplane fighter_jet",
    "bus": "minibus trolleybus double_decker school_bus coach",
    "train": "locomotive tram streetcar trolley subway steam_engine",
    "truck": "lorry pickup pick-up semi firetruck fire_truck fire_engine dump_truck tow_truck",
    "boat": "ship sailboat canoe kayak ferry yacht raft rowboat motorboat speedboat dinghy gondola tugboat barge",
    "traffic light": "stoplight stop_light traffic_signal traffic_lamp signal_light",
    "fire hydrant": "hydrant fireplug",
    "stop sign": "",
    "parking meter": "",
    "bench": "pew",
    "bird": "seagull gull pigeon duck goose geese swan parrot owl eagle hawk crow sparrow pelican flamingo peacock ostrich "
    "heron crane rooster hen chicken_coop dove robin finch penguin parakeet hummingbird egret falcon "
    "vulture pheasant blackbird sandpiper",
    "cat": "kitten kitty feline tabby",
    "dog": "puppy pup hound terrier poodle dachshund retriever labrador bulldog collie husky pug corgi",
    "horse": "pony mare stallion foal colt mustang",
    "sheep": "lamb ram ewe",
    "cow": "cattle bull calf calves ox oxen heifer steer bison",
    "elephant": "",
    "bear": "grizzly panda polar_bear cub",
    "zebra": "",
    "giraffe": "",
    "backpack": "rucksack knapsack back_pack bookbag",
    "umbrella": "parasol",
    "handbag": "purse wallet pocketbook hand_bag tote shoulder_bag",
    "tie": "necktie bow_tie bowtie neck_tie",
    "suitcase": "luggage suit_case briefcase steamer_trunk duffel_bag",
    "frisbee": "flying_disc flying_disk",
    "skis": "ski",
    "snowboard": "snow_board",
    "sports ball": "ball baseball football basketball volleyball soccer_ball tennis_ball",
    "kite": "",
    "baseball bat": "bat",
    "baseball glove": "mitt catcher's_mitt glove",
    "skateboard": "skate_board longboard",
    "surfboard": "surf_board boogie_board paddle_board",
    "tennis racket": "racket racquet tennis_racquet",
    "bottle": "flask",
    "wine glass": "wineglass goblet glass_of_wine glasses_of_wine champagne_glass stemware",
    "cup": "mug teacup coffee_cup",
    "fork": "",
    "knife": "knives pocketknife",
    "spoon": "ladle",
    "bowl": "",
    "banana": "plantain",
    "apple": "",
    "sandwich": "burger hamburger cheeseburger sub blt panini wrap",
    "orange": "clementine tangerine mandarin",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog corndog corn_dog frankfurter",
    "pizza": "calzone",
    "donut": "doughnut bagel",
    "cake": "cupcake cheesecake birthday_cake layer_cake",
    "chair": "armchair stool seat recliner barstool lawn_chair",
    "couch": "sofa loveseat settee futon",
    "potted plant": "houseplant flowerpot pot_plant plant_in_a_pot house_plant",
    "bed": "mattress bunk crib cot",
    "dining table": "table desk coffee_table kitchen_table picnic_table",
    "toilet": "urinal commode toilet_seat lavatory",
    "tv": "television monitor tv_set television_set tv_screen",
    "laptop": "notebook_computer laptop_computer macbook computer",
    "mouse": "mice computer_mouse",
    "remote": "remote_control wii_remote game_controller wiimote",
    "keyboard": "computer_keyboard",
    "cell phone": "cellphone mobile_phone smartphone phone iphone smart_phone",
    "microwave": "microwave_oven",
    "oven": "stove range_oven stovetop stove_top_oven",
    "toaster": "",
    "sink": "washbasin basin",
    "refrigerator": "fridge freezer",
    "book": "novel textbook magazine",
    "clock": "clock_face wall_clock clock_tower",
    "vase": "",
    "scissors": "shears",
    "teddy bear": "teddybear teddy stuffed_bear stuffed_animal",
    "hair drier": "hair_dryer hairdryer blow_dryer",
    "toothbrush": "tooth_brush",
}
"""The 80 classes of COCO → further names; underscores join the words of a name."""

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "mice": "mouse", "geese": "goose", "knives": "knife",
    "calves": "calf", "oxen": "ox", "wives": "wife", "skis": "ski", "policemen": "policeman", "firemen": "fireman",
    "scissors": "scissors", "glasses": "glass", "buses": "bus", "dishes": "dish",
}  # fmt: skip


def singular(word: str) -> str:
    """Return a noun's singular by rules: dogs → dog, boxes → box, puppies → puppy, dog's → dog; bus stays."""
    word = word.removesuffix("'s")
    for plural in (word, word.removesuffix("s")):  # people also write "mens" for men's
        if plural in _IRREGULAR:
            return _IRREGULAR[plural]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if (
        len(word) > 4
        and word.endswith(("ses", "xes", "zes", "ches", "shes"))
        and not word.endswith(("horses", "houses", "vases"))
    ):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def fold_words(text: str) -> tuple[str, ...]:
    """Return the words of a text, lower-cased and in the singular."""
    return tuple(singular(word) for word in tokenize(text))


class Vocabulary:
    """A mapping from names to object classes.

    Args:
        names: further names of each class; the class itself is a name as well.
        no_object: phrases that contain a name but mention no object. A name of a class is never such a phrase.

    Raises:
        ValueError: there is no name at all.
    """

    def __init__(self, names: Mapping[str, Iterable[str]], no_object: Iterable[str] = NO_OBJECT) -> None:
        self._class_of_name: dict[tuple[str, ...], str | None] = {}
        for label, others in names.items():
            for name in (label, *others):
                if words := fold_words(name):
                    self._class_of_name.setdefault(words, label)
        if not self._class_of_name:
            raise ValueError("a vocabulary needs at least one class with a name")
        for phrase, name in COMPOUNDS.items():
            self._class_of_name.setdefault(fold_words(phrase), self.label(name))
        for phrase in no_object:
            self._class_of_name.setdefault(fold_words(phrase), None)
        self.classes = tuple(names)
        self._longest = max(map(len, self._class_of_name))

    @classmethod
    @lru_cache(maxsize=1)
    def coco(cls) -> Vocabulary:
        """Return the 80 classes of COCO with everyday synonyms."""
        names = {label: [name.replace("_", " ") for name in others.split()] for label, others in COCO_80.items()}
        return cls(names)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Vocabulary:
        """Read a text file with one class per line: name and synonyms, separated by commas (as CHAIR's file).

        Raises:
            ValueError: the file has no class; the message names the file.
        """
        names: dict[str, list[str]] = {}
        for line in read_lines(path, "object vocabulary"):
            label, *others = [name.strip() for name in line.split(",") if name.strip()] or [""]
            if label:
                names.setdefault(label, []).extend(others)
        if not names:
            raise ValueError(
                f"{path} holds no class: write one class per line, its name and its synonyms separated by commas"
            )
        return cls(names)

    def label(self, name: str) -> str | None:
        """Return the class with that name ("sofa" → couch), or None."""
        return self._class_of_name.get(fold_words(name))

    def mentions(self, text: str) -> list[str]:
        """Return the class of each mention, in the order of the text."""
        return [label for label, _, _ in self.find_mentions(text)]

    def find_mentions(self, text: str) -> list[tuple[str, int, int]]:
        """Return (class, first word, word after the last one) of each mention, in words of `tokenize(text)`."""
        words = tokenize(text)
        singulars = [singular(word) for word in words]

        def label(i: int) -> str | None:
            return self._class_of_name.get(tuple(singulars[i : i + self._length(singulars, i)]))

        mentions: list[tuple[str, int, int]] = []
        i = 0
        while i < len(words):
            length = self._length(singulars, i)
            found = label(i)
            if found is not None and not (
                length == 1 and (is_colour(words, i) or is_modifier(words, singulars, i, label))
            ):
                mentions.append((found, i, i + length))
            i += max(length, 1)
        return mentions

    def _length(self, singulars: list[str], i: int) -> int:
        """Return the number of words of the longest name or phrase that begins at position `i`, or 0."""
        lengths = range(min(self._longest, len(singulars) - i), 0, -1)
        return next((n for n in lengths if tuple(singulars[i : i + n]) in self._class_of_name), 0)
