import json

import pytest

from rlcap.data.bags import (
    BagFile,
    attach_distractors,
    is_bag_file,
    make_bag_file,
    partition,
    random_distractors,
    read_truematch,
    write_truematch,
)
from rlcap.errors import BagError
from rlcap.types import Bag, Sample

LEVELS = {"hard": {"a": ("b", "c"), "b": ("a",), "c": ()}, "easy": {"a": ("c",), "b": ("c",), "c": ("a",)}}


def samples(ids="abc"):
    return [Sample(id, f"{id}.jpg") for id in ids]


def test_a_bag_file_is_read_as_it_was_written(tmp_path):
    bags = BagFile("clip", LEVELS, "f00", {"near_identical": 0.97})
    bags.write(tmp_path / "deep" / "bags.json")
    assert BagFile.read(tmp_path / "deep" / "bags.json") == bags
    assert json.loads((tmp_path / "deep" / "bags.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"hard": {"a": ("b",)}}, r"level 'hard' names 'b', which the data set does not have"),
        ({"hard": {"a": ("a",)}}, "'a' is listed as its own neighbour"),
        ({"hard": {"a": ("b", "b"), "b": ()}}, "neighbours of 'a' repeat"),
        ({}, "at least one level"),
    ],
)
def test_contradictory_bags_are_reported(levels, message):
    with pytest.raises(BagError, match=message):
        BagFile("clip", levels)


def test_invalid_bag_files(tmp_path):
    path = tmp_path / "bags.json"
    with pytest.raises(BagError, match="does not exist"):
        BagFile.read(path)
    for content, message in (("{", "not JSON"), ("[]", "no 'levels'"), ('{"schema": 9, "levels": {}}', "schema 9"),
                             ('{"schema": 1, "levels": [1]}', "'levels' must map a level"),
                             ('{"schema": 1, "levels": {"hard": {"a": 3}}}', "'levels' must map a level"),
                             ('{"schema": 1, "about": true, "levels": {"hard": {"a": []}}}', "'about' must be an object"),
                             ('{"schema": 1, "about": {"size": "x"}, "levels": {"hard": {"a": []}}}', "size must be a whole"),
                             ('{"schema": 1, "model": 3, "levels": {"hard": {"a": []}}}', "'model' must be a text")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(BagError, match=message):
            BagFile.read(path)


def test_attaching():
    a, b, _ = attach_distractors(samples(), BagFile("clip", LEVELS))
    assert a.distractors == {"hard": ("b", "c"), "easy": ("c",)}
    assert b.distractors == {"hard": ("a",), "easy": ("c",)}


def test_attaching_to_a_part_of_the_images():
    bags = BagFile("clip", LEVELS)
    with pytest.raises(BagError, match=r"level 'hard' of the bag file names 'c'.*drop"):
        attach_distractors(samples("ab"), bags)
    with pytest.raises(BagError, match="no list for 'd'"):
        attach_distractors(samples("abcd"), bags)
    with pytest.raises(BagError, match="another data set"):
        attach_distractors(samples("xyz"), bags)
    a, d = attach_distractors(samples("ad"), bags, on_unknown="drop")
    assert a.distractors == d.distractors == {"hard": (), "easy": ()}


def test_partition_is_greedy_and_disjoint():
    neighbours = {"a": "bcd", "b": "acd", "c": "dab", "d": "cab", "e": "fab", "f": "eab"}
    similarities = {"a": (0.9, 0.5, 0.4), "b": (0.9, 0.4, 0.3), "c": (0.95, 0.5, 0.4), "d": (0.95, 0.4, 0.3)}
    similarities |= {"e": (0.2, 0.1, 0.1), "f": (0.2, 0.1, 0.1)}
    assert [bag.ids for bag in partition(neighbours, 2, similarities)] == [("c", "d"), ("a", "b"), ("e", "f")]
    # c comes first with .95 + .5; after its bag only b, e and f remain, and the list of e contains f and b
    assert [bag.ids for bag in partition(neighbours, 3, similarities)] == [("c", "d", "a"), ("e", "f", "b")]
    assert partition(neighbours, 5, similarities) == []
    with pytest.raises(BagError, match="bag size 1"):
        partition(neighbours, 1, similarities)


def test_random_distractors_are_fair_and_repeatable():
    ids = [str(i) for i in range(20)]
    drawn = random_distractors(ids, 5, seed=3)
    assert drawn == random_distractors(ids[::-1], 5, seed=3)
    assert drawn != random_distractors(ids, 5, seed=4)
    assert all(len(set(others)) == 4 and id not in others for id, others in drawn.items())
    full = random_distractors(ids, 20)
    assert all(set(others) == set(ids) - {id} for id, others in full.items())
    with pytest.raises(BagError, match="choose 2 to 20"):
        random_distractors(ids, 21)


def test_truematch(tmp_path):
    path = tmp_path / "3.json"
    path.write_text("[[3310, 139, 42], [7, 8, 9]]")
    bags = read_truematch(path)
    assert [bag.ids for bag in bags] == [("3310", "139", "42"), ("7", "8", "9")]
    write_truematch([*bags, Bag(("007", "x", "1"))], tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == [[3310, 139, 42], [7, 8, 9], ["007", "x", 1]]
    with pytest.raises(BagError, match="names '42', '8', '9'"):
        read_truematch(path, known=["3310", "139", "7"])
    for content, message in (
        ("[[1, 2], [3]]", "lists of two or more"),
        ("[[1, null]]", "has None in place of an image id"),
        ("[[1, [2]]]", "has .2. in place of an image id"),
        ("[[1, 2], [3, 4, 5]]", "mixes bags of 2, 3"),
    ):
        path.write_text(content)
        with pytest.raises(BagError, match=message):
            read_truematch(path)


def test_disjoint_bags_as_a_bag_file_and_back(tmp_path):
    bags = [Bag(("a", "b", "c")), Bag(("f", "e", "d"))]
    file = make_bag_file(bags, "TrueMatch")
    assert file.levels == {"hard": {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b"), "f": ("e", "d"), "e": ("f", "d"),
                                    "d": ("f", "e")}}  # fmt: skip
    file.write(tmp_path / "bags.json")
    read = BagFile.read(tmp_path / "bags.json")
    lists = read.levels["hard"]
    assert partition(lists, read.about["size"], {id: (0.0,) * len(near) for id, near in lists.items()}) == bags
    write_truematch(bags, tmp_path / "3.json")
    assert (is_bag_file(tmp_path / "bags.json"), is_bag_file(tmp_path / "3.json")) == (True, False)
    with pytest.raises(BagError, match="contain 'a' more than once"):
        make_bag_file([*bags, Bag(("x", "a", "y"))])
    with pytest.raises(BagError, match="no bags"):
        make_bag_file([])
