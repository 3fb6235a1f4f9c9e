"""The noun matcher: longest names, plurals, colours, and any vocabulary."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from rlcap.scorers.objects.vocabulary import COCO_80, NO_OBJECT, Vocabulary, fold_words, singular
from rlcap.scorers.text.ngrams import tokenize

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


def test_as_good_as_the_published_synonyms_on_coco():
    published = REAL / "chair" / "synonyms.txt"
    if not published.exists():
        pytest.skip("no real data")
    instances = json.loads((REAL / "coco" / "annotations" / "instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in instances["categories"]}
    assert set(names.values()) == set(COCO_80)
    there = defaultdict(set)
    for annotation in instances["annotations"]:
        there[annotation["image_id"]].add(names[annotation["category_id"]])
    captions = json.loads((REAL / "coco" / "annotations" / "captions_val2017.json").read_text())["annotations"]
    rows = [(row["caption"], there[row["image_id"]]) for row in captions if row["image_id"] in there]
    shares = {}
    for name, vocabulary in (("ours", Vocabulary.coco()), ("theirs", Vocabulary.read(published))):
        right = [label in own for caption, own in rows for label in vocabulary.mentions(caption)]
        shares[name] = (len(right), sum(right) / len(right))
    assert shares["ours"][0] >= shares["theirs"][0]
    assert shares["ours"][1] > shares["theirs"][1] - 0.02
