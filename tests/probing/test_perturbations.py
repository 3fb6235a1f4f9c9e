"""The probes: each one is what its description says, and the findings count correctly."""

import math

import pytest

from rlcap.probing.perturbations import (
    LONG,
    PROBES,
    Finding,
    Material,
    compare,
    cut_inside_a_word,
    drop_fact,
    foreign_caption,
    hedge,
    make_suite,
    ramble,
)
from rlcap.scorers.text.ngrams import repeated_lines, tokenize
from rlcap.scorers.text.sentences import split_sentences

GOOD = "A brown dog sits on a red sofa. Two cushions lie beside it."
MATERIAL = Material(
    GOOD, "A bus drives along.", "The bus is red.", "Describe it.", words=("a dog on a couch", "the dog")
)


def test_golden_suite():
    made = make_suite(MATERIAL)
    assert list(made) == list(PROBES)
    assert made["empty"] == ""
    assert made["one_word"] == "dog"
    assert made["repeated"] == GOOD + " lie beside it" * 6
    assert sorted(made["word_shuffle"].split()) == [
        "brown",
        "couch",
        "cushions",
        "dog",
        "lie",
        "red",
        "sits",
        "sofa",
        "two",
    ]
    assert made["echo"] == "Describe it."
    assert made["other_image"] == "A bus drives along."
    assert made["one_false"] == f"{GOOD} The bus is red."
    assert made["one_missing"] == "A brown dog sits on a red sofa."
    assert made["hedged"] == "Maybe a brown dog sits on a red sofa. Perhaps two cushions lie beside it."
    assert all(made[name].startswith(GOOD) for name in ("repeated", "one_false", "rambling", "injection", "praise"))
    assert GOOD.startswith(made["cut_off"])
    assert GOOD[len(made["cut_off"])].isalpha()
    assert made["cut_off"][-1].isalpha()


def test_the_same_seed_gives_the_same_suite_and_all_probes_differ_from_the_good_caption():
    assert make_suite(MATERIAL, 3) == make_suite(MATERIAL, 3)
    assert make_suite(MATERIAL, 3)["word_shuffle"] != make_suite(MATERIAL, 4)["word_shuffle"]
    assert GOOD not in make_suite(MATERIAL).values()
    assert len(set(make_suite(MATERIAL).values())) == len(PROBES)


def test_impossible_probes_are_omitted_and_a_caption_without_words_is_rejected():
    made = make_suite(Material("A cat", "A dog", "A dog.", "A cat"))
    assert {"one_missing", "cut_off", "echo"}.isdisjoint(made)
    assert make_suite(Material("The it", "x", "x", "y"))["word_shuffle"] == "the it"
    with pytest.raises(ValueError, match="made from a caption with words"):
        make_suite(Material(" ...", "x", "x", "y"))


def test_single_perturbations():
    assert drop_fact("A dog sits on a sofa with a cushion") == "A dog sits on a sofa."
    assert drop_fact("A dog, sitting") is None
    assert cut_inside_a_word("an ox") is None
    assert 0.4 < len(cut_inside_a_word(GOOD)) / len(GOOD) <= 0.7
    assert hedge("There is a dog") == "Maybe there is a dog"
    assert 6 <= len(tokenize(foreign_caption(30))) <= 30
    assert tokenize(foreign_caption(1))
    long = ramble(GOOD)
    assert LONG - 10 <= len(tokenize(long)) <= LONG + 20
    assert repeated_lines(split_sentences(long)) == 0


def test_compare_golden():
    found = compare([1.0, 1.0, 1.0, math.nan], [0.0, 2.0, 1.00005, 0.0], floor=1e-3)
    assert found == Finding(3, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(-0.00005 / 3))
    assert compare([math.nan], [1.0]).n == 0
    with pytest.raises(ValueError, match="shorter"):
        compare([1.0], [])
