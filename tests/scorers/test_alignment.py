"""A judge's words find their place in the caption."""

from __future__ import annotations

import pytest

from rlcap.scorers.text.alignment import locate, quotations

CAPTION = "There is a small blue ball at the top. Two cups stand on the left. The box is to the left of the ball."


@pytest.mark.parametrize(
    ("quotation", "part"),
    [
        ("small blue ball", "small blue ball"),
        ("Small Blue Ball", "small blue ball"),
        ('"at the top."', "at the top"),
        ("the ball is blue", "There is a small blue ball at the top."),
        ("there are 2 of the kind cup", "Two cups stand on the left."),
        ("the box is left of the ball", "The box is to the left of the ball."),
        ("an elephant dances", CAPTION),
        ("", CAPTION),
    ],
)
def test_locate(quotation, part):
    start, end = locate(quotation, CAPTION)
    assert CAPTION[start:end] == part


def test_captions_whose_lower_case_is_longer():
    caption = "İ red ball."
    start, end = locate("red ball", caption)
    assert caption[start:end] == "red ball"


def test_quotations():
    assert quotations("it says 'a blue ball' and \"two cups\" but not “a box”") == ["a blue ball", "two cups", "a box"]
    assert quotations("the judge's words aren't quoted") == []


def test_the_whole_caption_where_no_sentence_has_the_words():
    assert locate("a dog", "...") == (0, 3)
