"""ALOHa: matching, the form of the list, which objects count as named and as known, and when it abstains."""

import itertools
import random

import numpy as np
import pytest
import torch
from fake_backends import FakeBackend, make_reward
from fake_models import WordVectors

from rlcap.config.imports import build
from rlcap.errors import ConfigError, ReplyFormatError
from rlcap.judge.backends.base import JudgeRequest
from rlcap.judge.templates import delimit, extract_delimited
from rlcap.lab.oracles.objects import OracleObjects, list_objects
from rlcap.rewards.aloha import Aloha, aloha
from rlcap.rewards.aloha.parsing import (
    MAX_OBJECTS,
    ObjectMention,
    collect_known_objects,
    format_objects,
    head_noun,
    parse_objects,
)
from rlcap.scorers.objects.matching import (
    MAX_COMBINATIONS,
    NameVectors,
    assign_partners,
    compute_similarities,
    match_alternatives,
    match_objects,
)
from rlcap.types import RewardBatch, Sample

LIST = "<objects>\n- Young  boy.\n- cup or jug\n- notebook (possibly)\n- young boy\n</objects>"
PLACES = {"dog": 0.0, "puppy": 0.2, "cat": 1.0, "kitten": 1.1, "ball": 1.5, "red ball": 1.55, "sky": 3.0}


class Circle:
    """An encoder that maps each name to a unit vector at a given angle."""

    def __init__(self):
        self.read = []

    def vectors(self, texts):
        self.read += texts
        angles = torch.tensor([PLACES[text] for text in texts], dtype=torch.float64)
        return torch.stack([angles.cos(), angles.sin()], 1)


NOBODY = Sample("", "")


class Lists(FakeBackend):
    """A backend that lists each word between commas as an object; `maybe` marks the uncertain ones."""

    name = "lists"

    def __init__(self):
        self.asked = []

    def generate(self, content, system_prompt=None, **_):
        self.asked.append(content)
        words = [word for line in extract_delimited("caption", content).splitlines() for word in line.split(", ")]
        found = [
            ObjectMention(tuple(w.removeprefix("maybe ").split(" or ")), not w.startswith("maybe ")) for w in words
        ]
        return format_objects(found)


def judged(caption, references=("dog, cat",), objects=None, encoder=None, engine=None, **options):
    reward = make_reward(
        Aloha, engine or Lists(), encoder or Circle(), cache=":memory:", backoff=0, retries=0, **options
    )
    meta = {} if objects is None else {"objects": objects}
    return reward.score(RewardBatch([caption], [Sample("a", "", references, meta=meta)]))[0]


def cosine(first, second):
    return round(float(np.cos(PLACES[first] - PLACES[second])), 5)


def test_golden():
    assert aloha([1, 0.8, 0]) == 0
    assert aloha([1, 0.8, 0], "mean") == pytest.approx(0.6)
    assert aloha([0.9, 0.8]) == 0.8
    assert aloha([]) == aloha([], "mean") == 0
    assert judged("dog, cat").value == 1
    assert judged("puppy, cat").value == pytest.approx(cosine("puppy", "dog"))
    assert judged("puppy, cat", form="mean").value == pytest.approx((cosine("puppy", "dog") + 1) / 2)
    assert judged("sky").value == 0  # cosines below 0 count as 0
    found = judged("puppy, cat")
    assert found.note == "puppy | dog | 0.98\ncat | cat | 1.00"


def test_golden_partners():
    """The largest sum: the second object takes another partner only where that increases the sum."""
    assert assign_partners(np.array([[0.9, 0.8], [0.8, 0.1]])) == [1, 0]
    assert assign_partners(np.array([[0.9, 0.8], [0.8, 0.75]])) == [0, 1]
    assert match_objects(np.array([[0.5], [0.9], [0.7]])) == [(None, 0.0), (0, 0.9), (None, 0.0)]
    assert assign_partners(np.zeros((0, 3))) == []


def test_partners_have_the_largest_sum_of_all():
    rng = np.random.default_rng(0)
    for n in range(200):
        rows, columns = (int(size) for size in rng.integers(1, 5, 2))
        table = np.round(rng.random((rows, columns)), n % 3 + 1)  # with ties
        found = assign_partners(table)
        pairs = [(row, column) for row, column in enumerate(found) if column is not None]
        assert len(pairs) == len({column for _, column in pairs}) == min(rows, columns)
        wide = table if rows <= columns else table.T
        best = max(
            sum(wide[row, column] for row, column in enumerate(order))
            for order in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert sum(table[pair] for pair in pairs) == pytest.approx(best)


def test_an_object_that_may_be_several_is_the_best_of_them():
    found = compute_similarities(
        NameVectors(Circle()), [("dog", "cat"), ("ball",)], [("kitten",), ("puppy", "red ball")]
    )
    assert found == pytest.approx(
        np.array([[cosine("cat", "kitten"), cosine("dog", "puppy")], [cosine("ball", "kitten"), cosine("ball", "red ball")]])
    )  # fmt: skip
    assert judged("sky or puppy", ("dog",)).value == pytest.approx(cosine("puppy", "dog"))


class Table:
    """An encoder in which each named object has the given cosines with the known objects x, y, …"""

    def __init__(self, cosines):
        known = len(next(iter(cosines.values())))
        self.rows = {name: np.eye(known + len(cosines))[i] for i, name in enumerate("xyzw"[:known])}
        for i, (name, row) in enumerate(cosines.items()):
            rest = np.zeros(len(cosines))
            rest[i] = np.sqrt(1 - np.square(row).sum())
            self.rows[name] = np.concatenate([row, rest])

    def vectors(self, texts):
        return torch.tensor(np.stack([self.rows[text] for text in texts]))


def test_or_is_tried_in_every_combination():
    """The best name for each pair would give "a or b" the partner x, for a sum of .95 + .55 and a minimum of .55."""
    table = Table({"a": [0.95, 0], "b": [0, 0.7], "c": [0.7, 0.55]})
    value, pairs = match_alternatives(NameVectors(table), [("a", "b"), ("c",)], [("x",), ("y",)], min)
    assert value == pytest.approx(0.7)
    assert pairs == [(1, pytest.approx(0.7)), (0, pytest.approx(0.7))]
    assert judged("a or b, c", ("x, y",), encoder=table).value == pytest.approx(0.7)
    assert judged("a or b, c", ("x, y",), encoder=table).note == "a or b | y | 0.70\nc | x | 0.70"
    assert judged("a or b, c", ("x, y",), encoder=table, form="mean").value == pytest.approx(0.75)


def test_objects_of_one_name_are_one_object():
    table = Table({"a": [0.9, 0.2], "b": [0.1, 0.5]})
    value, pairs = match_alternatives(NameVectors(table), [("a", "b"), ("a",)], [("x",), ("y",)], aloha)
    assert value == pytest.approx(0.9)  # "a or b" is the a that is named already
    assert pairs == [(0, pytest.approx(0.9))] * 2


def test_combinations_are_those_of_the_published_enumeration():
    rng = np.random.default_rng(0)
    for form in ("least", "mean"):
        for _ in range(60):
            names = [f"n{i}" for i in range(5)]
            table = Table({name: rng.random(3) / 2 for name in names})
            mentioned = [tuple(rng.choice(names, rng.integers(1, 4), replace=False).tolist()) for _ in range(3)]
            known = [tuple(rng.choice(list("xyz"), rng.integers(1, 3), replace=False).tolist()) for _ in range(3)]
            best = -1.0
            for named in itertools.product(*mentioned):
                for present in itertools.product(*known):
                    rows, columns = ([(name,) for name in sorted(set(own))] for own in (named, present))
                    pairs = match_objects(compute_similarities(NameVectors(table), rows, columns))
                    best = max(best, aloha([value for _, value in pairs], form))
            found, _ = match_alternatives(NameVectors(table), mentioned, known, lambda v, form=form: aloha(v, form))
            assert found == pytest.approx(best)


def test_too_many_combinations_take_the_best_name_of_each_pair():
    many = [("a", "b")] * 11
    table = Table({"a": [0.9, 0.2], "b": [0.1, 0.5]})
    assert MAX_COMBINATIONS < 2**11
    value, pairs = match_alternatives(NameVectors(table), many, [("x",), ("y",)], aloha)
    assert len(pairs) == 11
    assert value == 0


def test_more_objects_than_are_known_have_no_partner():
    assert judged("dog, puppy", ("dog",)).value == 0
    assert judged("dog, puppy", ("dog",), form="mean").value == 0.5
    assert "puppy | nothing | 0.00" in judged("dog, puppy", ("dog",)).note


def test_what_the_caption_doubts_is_left_out_or_counted_and_what_references_doubt_counts():
    assert judged("dog, maybe sky").value == 1
    assert judged("dog, maybe sky", doubted="counted").value == 0
    assert judged("maybe dog").value == 0  # it says nothing for certain
    assert judged("cat", ("dog, maybe cat",)).value == 1


def test_known_are_all_names_their_nouns_and_the_annotated():
    listed = [ObjectMention(("white shirt", "blouse of silk")), ObjectMention(("sky",), False)]
    assert collect_known_objects(listed, [" Traffic  Light", 7, "", "sky"]) == [
        ("white shirt", "blouse of silk"), ("sky",), ("shirt", "blouse"), ("traffic light",),
    ]  # fmt: skip
    assert head_noun("man in a hat") == "man"
    assert head_noun("of") == "of"
    assert judged("ball", ("red ball",)).value == 1
    assert judged("dog", (), ["dog"]).value == 1
    assert judged("dog, sky", ("sky",), ["dog"]).value == 1


def test_references_are_asked_about_once_in_one_text():
    engine = Lists()
    sample = Sample("a", "", ("dog", " ", "cat,\ndog"))
    scores = make_reward(Aloha, engine, Circle(), cache=":memory:").score(RewardBatch(["dog", "cat", ""], [sample] * 3))
    assert [score.value for score in scores] == [1, 1, 0]
    assert sorted(extract_delimited("caption", content) for content in engine.asked) == ["cat", "dog", "dog\ncat, dog"]


def test_a_name_is_encoded_once_as_long_as_it_is_kept():
    encoder = Circle()
    vectors = NameVectors(encoder, most=2)
    assert vectors.get(["dog", "cat"]).shape == (2, 2)
    vectors.get(["dog"])
    assert encoder.read == ["dog", "cat"]
    vectors.get(["ball"])  # and the cat is evicted, because it was used least recently
    vectors.get(["dog", "cat"])
    assert encoder.read == ["dog", "cat", "ball", "cat"]


def test_the_list_is_read_and_written():
    found = parse_objects(LIST)
    assert found == [ObjectMention(("young boy",)), ObjectMention(("cup", "jug")), ObjectMention(("notebook",), False)]
    assert parse_objects(format_objects(found)) == found
    assert parse_objects(f"<think>hm <x></think>\n```xml\n{LIST}\n```") == found
    assert parse_objects("<objects>\n- brown, furry dog\n</objects>") == [ObjectMention(("brown furry dog",))]
    assert parse_objects("<objects>\n- A cat, dog, or bird\n</objects>") == [ObjectMention(("a cat", "dog", "bird"))]
    for nothing in ("", "none", "- None."):
        assert parse_objects(f"<objects>\n{nothing}\n</objects>") == []
    assert parse_objects(format_objects([])) == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "no <objects> section"),
        (f"Sure: {LIST}", "text around"),
        (LIST + LIST, "text around"),
        ("<objects>\ndog\n</objects>", "a line such as `- young boy`"),
        ("<objects>\n- \n</objects>", "1 to 12 words"),
        ("<objects>\n- (possibly)\n</objects>", "1 to 12 words"),
        ("<objects>\n- !\n</objects>", "1 to 12 words"),
        (f"<objects>\n- {'dog ' * 13}\n</objects>", "1 to 12 words"),
        ("<objects>" + "\n- dog" * (MAX_OBJECTS + 1) + "</objects>", "201 objects"),
    ],
)
def test_a_reply_that_is_not_a_list_is_reported(reply, message):
    with pytest.raises(ReplyFormatError, match=message):
        parse_objects(reply)

    class Says(Lists):
        def generate(self, content, system_prompt=None, **_):
            return reply

    assert judged("dog", engine=Says()).reason.startswith("unparseable verdict" if reply else "empty reply")


def test_it_abstains_without_known_objects():
    class Blank(Lists):
        def generate(self, content, system_prompt=None, **_):
            return format_objects([])

    assert "neither references nor" in judged("dog", ("", " ")).reason
    assert "neither references nor" in judged("dog", (), [3, " "]).reason
    assert "neither references nor" in judged("dog", (), "dog").reason
    assert "name no object" in judged("dog", engine=Blank()).reason
    assert judged("good", objects=["dog"], engine=Blank()).value == 0


def test_invalid_options_are_reported():
    for name, value, allowed in (("form", "min", "least or mean"), ("doubted", "maybe", "left_out or counted")):
        params = {"judge": {"backend": Lists(), "cache": ":memory:"}, "encoder": Circle(), name: value}
        with pytest.raises(ConfigError, match=f"{name} of Aloha must be"):
            build(Aloha, params)
        with pytest.raises(ValueError, match=f"{name} must be {allowed}, got '{value}'"):
            Aloha(**params)
    with pytest.raises(ConfigError, match="sentence encoder 'nowhere'"):
        make_reward(Aloha, Lists(), "nowhere", cache=":memory:")


def test_the_labs_lister():
    text = (
        "there is a small red ball. the ball is striped. maybe there are two boats. the background is sand. it is fine!"
    )
    assert list_objects(text) == ["small red ball", "striped ball", "boat (possibly)", "sand"]
    listed = OracleObjects().answer(JudgeRequest((delimit("caption", text),), "", NOBODY))
    assert [(thing.names, thing.sure) for thing in parse_objects(listed)][1:3] == [
        (("striped ball",), True),
        (("boat",), False),
    ]
    assert parse_objects(OracleObjects().answer(JudgeRequest((delimit("caption", "it is fine!"),), "", NOBODY))) == []
    with pytest.raises(ValueError, match="needs a delimited part <caption>"):
        OracleObjects().answer(JudgeRequest(("there is a ball.",), "", NOBODY))
    reward = make_reward(Aloha, OracleObjects(), WordVectors(), cache=":memory:")
    sample = Sample("a", "", ("there is a red ball.", "a boat on sand."))
    captions = ["there is a red ball.", "there is a boat. there is a ball.", "there is a cup.", "praise and no thing."]
    found = [score.value for score in reward.score(RewardBatch(captions, [sample] * 4))]
    assert found[:2] == [1, 1]
    assert found[2] < 1
    assert found[3] == 0


def test_the_order_of_objects_does_not_matter():
    words = ["puppy", "kitten", "red ball", "sky"]
    values = set()
    for seed in range(6):
        random.Random(seed).shuffle(words)
        values.add(judged(", ".join(words), ("dog, cat, ball",), form="mean").value)
    assert len({round(value, 9) for value in values}) == 1
