"""The noun matcher: longest names, plurals, colours, and any vocabulary."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from rlcap.scorers.objects.readings import NO_OBJECT
from rlcap.scorers.objects.vocabulary import COCO_80, Vocabulary, fold_words, singular
from rlcap.scorers.text.ngrams import tokenize
from rlcap.scorers.text.ptb import tokenize_ptb

REAL = Path(__file__).parents[3] / "shared" / "real"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two men on a train track watch a hot dog stand.", ["person", "hot dog"]),
        ("A glass of wine and two glasses of wine", ["wine glass", "wine glass"]),
        ("The buses wait at the bus stop.", ["bus"]),
        ("An orange cat sits on a couch next to oranges.", ["cat", "couch", "orange"]),
        ("The wall is orange. A peeled orange on a plate.", ["orange"]),
        ("Knives, forks and a dining-table", ["knife", "fork"]),
        ("A polar bear and teddy bears", ["bear", "teddy bear"]),
        ("A woman wearing glasses skis past a man's dog", ["person", "skis", "person", "dog"]),
        ("An elephant, elephants", ["elephant", "elephant"]),
        ("nothing to see", []),
        ("", []),
    ],
)
def test_mentions(text, expected):
    assert Vocabulary.coco().mentions(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A baby elephant walks.", ["elephant"]),
        ("An adult giraffe and a baby brown bear", ["giraffe", "bear"]),
        ("Adult and baby elephants with a mother zebra", ["elephant", "zebra"]),
        (
            "A mother and a dog. A baby sleeps. A mother holds her baby.",
            ["person", "dog", "person", "person", "person"],
        ),
        ("A baby grand piano, baby carrots and baby blue walls", ["carrot"]),
        ("A passenger train, passenger buses and a passenger jumbo jet", ["train", "bus", "airplane"]),
        ("Passengers board a bus. A passenger boards.", ["person", "bus", "person"]),
        ("A couple of zebras and a couple glasses of wine", ["zebra", "wine glass"]),
        ("A couple of men. A couple walks. A couple skis.", ["person", "person", "person", "skis"]),
        ("A family of bears and a crowd of kites", ["bear", "kite"]),
        ("A family of four. A crowd of people. The family room.", ["person", "person"]),
        ("An elephant lifts its trunk at a tree trunk.", ["elephant"]),
        ("An orange and white cat, a black and orange bird", ["cat", "bird"]),
        ("An apple and orange, a mango, orange and banana", ["apple", "orange", "orange", "banana"]),
        ("A bright orange bus is painted orange, a man in orange", ["bus", "person"]),
        ("The toilet seat and a seat", ["toilet", "chair"]),
        ("A batter at home plate, baseball players, an mp3 player", ["person", "person"]),
        ("A bow tie, a pitcher of flowers, a pitcher throws", ["tie", "person"]),
        ("Food cooks in an oven. A cook stove. A cook smiles.", ["oven", "oven", "person"]),
        ("The driver's side of a truck, a men's room, childrens toys, a child's hand", ["truck", "person"]),
    ],
)
def test_a_name_within_a_phrase_is_no_mention(text, expected):
    assert Vocabulary.coco().mentions(text) == expected


def test_the_readings_hold_for_every_vocabulary_but_its_own_names_win():
    vocabulary = Vocabulary({"person": ["baby"], "elephant": [], "chair": ["seat"], "station": ["train station"]})
    assert vocabulary.mentions("A baby elephant on a toilet seat in a train station") == ["elephant", "station"]


def test_singular():
    words = tokenize("dogs boxes puppies knives buses glasses bus glass tennis sheep horses couches vases people geese")
    expected = tokenize("dog box puppy knife bus glass bus glass tennis sheep horse couch vase person goose")
    assert [singular(word) for word in words] == expected
    assert fold_words("Two DOGS' bowls") == ("two", "dog", "bowl")


def test_all_80_classes_go_by_their_own_name():
    vocabulary = Vocabulary.coco()
    assert len(vocabulary.classes) == len(COCO_80) == 80
    for label in COCO_80:
        assert vocabulary.mentions(f"There is a {label}.") == [label]
        assert vocabulary.label(label) == label
    for phrase in NO_OBJECT:
        assert not vocabulary.mentions(phrase), phrase


def test_any_vocabulary(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("ball, sphere\n\nbox, crate, big crate\n")
    vocabulary = Vocabulary.read(path)
    assert vocabulary.mentions("Two spheres, a big crate and a cat") == ["ball", "box"]
    assert vocabulary.label("crates") == "box"
    assert vocabulary.label("cat") is None
    path.write_text("\n")
    with pytest.raises(ValueError, match=r"names\.txt holds no class"):
        Vocabulary.read(path)
    with pytest.raises(ValueError, match="at least one class"):
        Vocabulary({})


class Published:
    """CHAIR's own reading of a caption, with singulars by `singular` and tokens by `tokenize_ptb`."""

    def __init__(self, synonyms):
        rows = [line.strip().split(", ") for line in synonyms.read_text().splitlines() if line.strip()]
        self.class_of = {name: row[0] for row in rows for name in row}
        doubles = (
            "motor bike|motor cycle|air plane|traffic light|street light|traffic signal|stop light|fire hydrant|stop sign|"
            "parking meter|suit case|sports ball|baseball bat|baseball glove|tennis racket|wine glass|hot dog|cell phone|"
            "mobile phone|teddy bear|hair drier|potted plant|laptop computer|home plate"
        )
        animals = [
            "bird",
            "cat",
            "dog",
            "horse",
            "sheep",
            "cow",
            "elephant",
            "bear",
            "zebra",
            "giraffe",
            "animal",
            "cub",
        ]
        self.doubles = {name: name for name in doubles.split("|")} | {"bow tie": "tie", "toilet seat": "toilet"}
        self.doubles |= {f"{age} {animal}": animal for age in ("baby", "adult") for animal in animals}
        self.doubles |= {f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")}

    def mentions(self, text):
        words, names = [singular(word) for word in tokenize_ptb(text)], []
        while words:
            double = self.doubles.get(" ".join(words[:2]))
            names.append(double or words[0])
            del words[: 2 if double else 1]
        if "toilet" in names:
            names = [name for name in names if name != "seat"]
        return [self.class_of[name] for name in names if name in self.class_of]


@pytest.fixture(scope="module")
def coco():
    """Image → captions, and image → annotated classes for the images that have them."""
    folder = REAL / "coco" / "annotations"
    if not (REAL / "chair" / "synonyms.txt").exists() or not folder.is_dir():
        pytest.skip("no real data")
    instances = json.loads((folder / "instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert set(names.values()) == set(COCO_80)
    captions, there = defaultdict(list), defaultdict(set)
    for row in json.loads((folder / "captions_val2017.json").read_text())["annotations"]:
        captions[row["image_id"]].append(row["caption"])
    for row in instances["annotations"]:
        there[row["image_id"]].add(names[row["category_id"]])
    return captions, there


def read(vocabulary, captions):
    """Return for each image the mentions of each caption, and the classes that only this caption of the image mentions."""
    found = {image: [vocabulary.mentions(text) for text in texts] for image, texts in captions.items()}
    alone = {
        image: [
            set(own) - {label for j, other in enumerate(rows) if j != i for label in other}
            for i, own in enumerate(rows)
        ]
        for image, rows in found.items()
    }
    return found, alone


def test_fewer_false_persons_than_by_the_published_rules_on_coco(coco):
    """A person that no other of an image's five captions mentions counts as false."""
    captions, _ = coco
    (found, alone), (published, published_alone) = (
        read(vocabulary, captions) for vocabulary in (Vocabulary.coco(), Published(REAL / "chair" / "synonyms.txt"))
    )
    false = [sum("person" in own for rows in table.values() for own in rows) for table in (alone, published_alone)]
    lost = Counter(
        label
        for image, rows in published.items()
        for own, theirs, single in zip(found[image], rows, published_alone[image], strict=True)
        for label in set(theirs) - set(own) - single
    )
    mentions = sum(len(set(own)) for rows in published.values() for own in rows)
    print(f"false persons: {false[0]}, published rules {false[1]}; confirmed mentions of {mentions} lost: {lost}")
    assert false[1] == 272
    assert false[0] <= 230
    assert lost["person"] <= 24  # "mother giraffe", "passenger bus", "men's room" and their like
    assert sum(lost.values()) <= 0.015 * mentions  # with colours, "train station" and other phrases without the object


def test_more_often_annotated_than_by_the_published_rules_on_coco(coco):
    captions, there = coco
    shares = {}
    for name, vocabulary in (("ours", Vocabulary.coco()), ("theirs", Published(REAL / "chair" / "synonyms.txt"))):
        found = read(vocabulary, {image: captions[image] for image in there})[0]
        right = [label in there[image] for image, rows in found.items() for own in rows for label in own]
        shares[name] = (len(right), sum(right) / len(right))
    print(shares)
    assert shares["ours"] > shares["theirs"]
    assert shares["ours"][1] > shares["theirs"][1]


def test_the_published_file_reads_as_the_published_rules_do_on_double_words():
    file = REAL / "chair" / "synonyms.txt"
    if not file.exists():
        pytest.skip("no real data")
    vocabulary, published = Vocabulary.read(file), Published(file)
    for text in (
        "a baby elephant",
        "a passenger train",
        "the toilet seat",
        "at home plate",
        "a bow tie",
    ):
        assert vocabulary.mentions(text) == published.mentions(text), text
