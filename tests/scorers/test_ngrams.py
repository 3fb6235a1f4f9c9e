"""Counts of words and n-grams on texts counted by hand."""

import json
import re
import unicodedata
from pathlib import Path

import pytest

from rlcap.rewards.length import Length
from rlcap.rewards.repetition import repetition
from rlcap.scorers.text.cider import CiderD
from rlcap.scorers.text.ngrams import distinct, ngrams, repeated_lines, repeated_share, tokenize
from rlcap.scorers.text.overlap import bleu, rouge_l
from rlcap.types import RewardBatch, Sample

COCO = Path(__file__).parents[3] / "shared" / "real" / "coco" / "annotations" / "captions_val2017.json"
HINDI, OTHER_HINDI = "राम की राम की राम की राम की", "राम का राम के राम को राम कु"
COMPOSED = "the café façade is très élégant"
SPELLINGS = [
    (COMPOSED, unicodedata.normalize("NFD", COMPOSED)),
    ("the dog's owner doesn't see it", "the dog’s owner doesnʼt see it"),
    ("a black t-shirt and blue jeans", "a black t\u2011shirt and blue jeans"),
    ("क्ष के साथ एक राम", "क्\u200dष के साथ एक राम"),
    ("a child with a cap and gloves", "a chi\u00adld with a cap and gloves"),
]
"""Pairs of texts that a reader cannot tell apart."""


def test_words_lose_case_and_punctuation_but_keep_apostrophes_and_hyphens():
    assert tokenize("A Dog's T-shirt, 2 cats…") == ["a", "dog's", "t-shirt", "2", "cats"]


def test_unicode_and_scripts_without_spaces():
    assert tokenize("Ein größerer Été") == ["ein", "größerer", "été"]
    assert tokenize("猫と犬") == ["猫", "と", "犬"]
    assert tokenize("🐱 !!! ") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HINDI, ["राम", "की"] * 4),
        ("كِتَابٌ جديد", ["كِتَابٌ", "جديد"]),
        ("แมวดำ", ["แ", "ม", "ว", "ด", "ำ"]),
        ("น้ำ ที่", ["น้", "ำ", "ที่"]),
        ("か\u3099っこう", ["が", "っ", "こ", "う"]),
        ("2\ufe0f\u20e3 dogs \U0001f468\u200d\U0001f469\u200d\U0001f467", ["2", "dogs"]),
        ("zero\u200bwidth", ["zero", "width"]),
        ("‘single’ “double” en–dash", ["single", "double", "en", "dash"]),
        ("\u0301 ́̈", []),
    ],
)
def test_combining_marks_belong_to_their_letter(text, words):
    assert tokenize(text) == words


@pytest.mark.parametrize(("text", "spelling"), SPELLINGS)
def test_texts_that_look_the_same_have_the_same_words_in_every_metric(text, spelling):
    assert text != spelling
    assert tokenize(text) == tokenize(spelling)
    assert bleu(spelling, [text]) == pytest.approx(1)
    assert rouge_l(spelling, [text]) == pytest.approx(1)
    cider = CiderD.fit([[text], ["two zebras graze on a dry plain"]])
    assert cider.score(spelling, [text]) == pytest.approx(10)
    length = Length(form="gate", low=1, high=1)
    assert length.score(RewardBatch([spelling], [Sample("a", "", references=(text,))]))[0].value == 1
    assert repetition(f"{text}. {spelling}.") == 0.5


def test_words_that_differ_in_their_marks_alone_differ_in_every_metric():
    assert bleu(HINDI, [OTHER_HINDI]) < 1e-6  # no two words in a row are shared
    assert rouge_l(HINDI, [OTHER_HINDI]) == pytest.approx(0.5)
    cider = CiderD.fit([[OTHER_HINDI], ["two zebras graze on a dry plain"]])
    assert cider.score(HINDI, [OTHER_HINDI]) < 2.5
    assert repetition(OTHER_HINDI) == 0
    assert repetition(HINDI) == pytest.approx(4 / 6)


def test_english_captions_have_the_words_of_the_first_version():
    if not COCO.exists():
        pytest.skip(f"no {COCO.name}")
    first_version = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
    for row in json.loads(COCO.read_text())["annotations"]:
        assert tokenize(row["caption"]) == first_version.findall(row["caption"].lower())


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
