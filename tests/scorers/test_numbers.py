"""Counts in words: golden."""

import pytest

from rlcap.scorers.text.numbers import spell_out_counts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2 dogs and 1 cat.", "two dogs and one cat."),
        ("(3) boats, 20 of them", "(three) boats, twenty of them"),
        ("a group of 12", "a group of twelve"),
        ("There are 4. Then 5!", "There are four. Then five!"),
        ("at 5:30, 2.5 m for $3 or 50%", "at 5:30, 2.5 m for $3 or 50%"),
        ("B2, a 2x4, 21 men, 100 birds, 3-2, 1/2, 7°", "B2, a 2x4, 21 men, 100 birds, 3-2, 1/2, 7°"),
        ("", ""),
    ],
)
def test_golden(text, words):
    assert spell_out_counts(text) == words
