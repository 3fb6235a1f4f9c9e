"""Counts of words and n-grams on texts counted by hand."""

import pytest

from rlcap.scorers.text.ngrams import distinct, ngrams, repeated_lines, repeated_share, tokenize


def test_words_lose_case_and_punctuation_but_keep_apostrophes_and_hyphens():
    assert tokenize("A Dog's T-shirt, 2 cats…") == ["a", "dog's", "t-shirt", "2", "cats"]


def test_unicode_and_scripts_without_spaces():
    assert tokenize("Ein größerer Été") == ["ein", "größerer", "été"]
    assert tokenize("猫と犬") == ["猫", "と", "犬"]
    assert tokenize("🐱 !!! ") == []


def test_repeated_share_by_hand():
    assert repeated_share(tokenize("a cat and a cat and a cat"), 3) == pytest.approx(0.5)
    assert repeated_share(["x"] * 10, 4) == pytest.approx(6 / 7)
    assert repeated_share(tokenize("one two three four"), 3) == 0
    assert repeated_share([], 3) == 0
    assert repeated_share(["a"], 3) == 0


def test_distinct_by_hand():
    assert distinct(["a", "a", "b", "b"], 1) == 0.5
    assert distinct([], 2) == 1


def test_repeated_lines_ignore_case_and_empty_lines():
    assert repeated_lines(["A cat.", "a cat", "", "A dog."]) == pytest.approx(1 / 3)
    assert repeated_lines([]) == 0


def test_zero_grams_are_refused():
    with pytest.raises(ValueError, match="n >= 1"):
        ngrams(["a"], 0)
