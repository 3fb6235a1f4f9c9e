import pytest

from rlcap.scorers.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n ", []),
        ("...", []),
        ("A dog runs", ["A dog runs"]),
        ("A dog runs. Two cats sleep!", ["A dog runs.", "Two cats sleep!"]),
        ("A dog runs.Two cats sleep.", ["A dog runs.", "Two cats sleep."]),
        ("Is it red? Yes.\nA bus\n\nwaits", ["Is it red?", "Yes.", "A bus", "waits"]),
        ("It is 2.5 metres tall. Good.", ["It is 2.5 metres tall.", "Good."]),
        ("Fruits, e.g. apples, lie there. Dr. Smith eats.", ["Fruits, e.g. apples, lie there.", "Dr. Smith eats."]),
        ('The sign says "Stop." A car waits.', ['The sign says "Stop."', "A car waits."]),
        ("Wait... what? Yes !", ["Wait...", "what?", "Yes !"]),
    ],
)
def test_sentences(text, expected):
    assert split_sentences(text) == expected


def test_nothing_is_lost():
    text = "A man (left) rides. e.g. He smiles!! 3 dogs.. follow. U.S. flags wave.\nEnd"
    joined = "".join("".join(split_sentences(text)).split())
    assert joined == "".join(text.split())
