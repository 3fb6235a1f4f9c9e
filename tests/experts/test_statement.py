"""Statements: what they refuse, how they are stored, and how they read as sentences."""

import pytest

from rlcap.experts.statement import Statement
from rlcap.judge.image_crops import Box


def test_a_statement_is_stored_and_read_back():
    full = Statement("a  red\nbus", "object", "objects", 0.93456, Box(0.1, 0.2, 0.60001, 1))
    assert full.text == "a red bus"
    assert full.to_json() == {
        "text": "a red bus", "kind": "object", "source": "objects", "score": 0.9346, "box": [0.1, 0.2, 0.6, 1.0],
    }  # fmt: skip
    assert Statement.from_json(full.to_json()) == full
    bare = Statement("dog", "tag", "tags")
    assert bare.to_json() == {"text": "dog", "kind": "tag", "source": "tags"}
    assert Statement.from_json(bare.to_json()) == bare


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " … "}, "letter or a digit"),
        ({"kind": "rumour"}, "kind is one of"),
        ({"score": float("nan")}, "finite"),
        ({"box": Box(0.5, 0, 0.4, 1)}, "shares in"),
        ({"box": Box(0, 0, 1, 30)}, "shares in"),
    ],
)
def test_what_is_no_statement_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Statement(**{"text": "dog", "kind": "tag", **changes})


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("dog", "tag", "There is a dog."),
        ("orange cat", "object", "There is an orange cat."),
        ("two dogs", "tag", "There is two dogs."),
        ("EXIT", "text", 'The text "EXIT" is written in the image.'),
        ("A dog runs.", "caption", "A dog runs."),
        ("there is a red ball.", "object", "there is a red ball."),
    ],
)
def test_statements_read_as_sentences(text, kind, sentence):
    assert Statement(text, kind).sentence() == sentence
