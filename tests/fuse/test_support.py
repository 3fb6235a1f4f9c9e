"""Provenance: golden cases of the word support, and the NLI support with a model without weights and with the lab's."""

import pytest
from fake_models import WordNli

from rlcap.errors import ConfigError
from rlcap.experts.statement import Statement
from rlcap.fuse.preset import SupportConfig
from rlcap.fuse.support import NliSupport, WordSupport, content_words, load_support

TOLD = [
    Statement("A brown dog runs along a beach.", "caption", "caption"),
    Statement("dog", "object", "objects", 0.9),
    Statement("frisbee", "object", "objects", 0.6),
    Statement("brown dog", "attribute", "colours", 0.8),
    Statement("SURF SHOP", "text", "ocr", 0.9),
    Statement("Two people watch.", "reference", "people"),
]


@pytest.mark.parametrize(
    ("sentence", "statements", "experts"),
    [
        ("A brown dog runs along a beach.", (0, 1, 3), 1),  # of five content words, the caption alone has enough
        ("There is a dog.", (0, 1, 3), 3),  # the caption, the detector and the colour namer each say it
        ("A brown dog.", (0, 1, 3), 2),  # the detector says only half of it
        ("The dog plays with a frisbee.", (1, 2, 3), 1),  # two of three words, said by the detector alone
        ("A sign reads Surf Shop.", (4,), 0),  # two of four words: `sign` and `reads` are nobody's
        ("A surf shop.", (4,), 1),
        ("2 people.", (5,), 1),  # counts are spelt out
        ("A cat sleeps.", (), 0),
        ("It is a scene.", (), 0),  # no content words
    ],
)
def test_word_support(sentence, statements, experts):
    ((found,),) = WordSupport().judge([[sentence]], [TOLD])
    assert (found.statements, found.experts) == (statements, experts)


def test_statements_together_support_what_none_supports_alone():
    told = [Statement("red ball", "attribute", "one"), Statement("wooden table", "attribute", "two")]
    ((found,),) = WordSupport(share=0.9).judge([["A red ball on a wooden table."]], [told])
    assert (found.statements, found.experts) == ((0, 1), 0)  # `on` is a claim that nobody makes
    ((found,),) = WordSupport(share=0.8).judge([["A red ball on a wooden table."]], [told])
    assert found.experts == 1


def test_content_words_are_folded():
    assert content_words("There are 2 dogs and the boxes.") == {"two", "dog", "box"}


@pytest.mark.parametrize("values", [{"share": 0}, {"share": 1.2}, {"part": -1}])
def test_shares_outside_their_range_are_refused(values):
    with pytest.raises(ConfigError, match="lie in"):
        WordSupport(**values)


def test_nli_support_reads_statements_alone_by_expert_and_together():
    support = NliSupport("none", threshold=0.99)
    support._scorer = WordNli()  # entails what consists of its words
    told = [
        Statement("a dog", "reference", "one"),
        Statement("a beach", "reference", "one"),
        Statement("a kite", "reference", "two"),
    ]
    sentences = ["a dog", "a dog a beach", "a kite a dog", "a cat", "maybe a dog"]
    (found,) = support.judge([sentences], [told])
    assert [one.experts for one in found] == [1, 1, 1, 0, 1]
    assert [one.statements for one in found] == [(0,), (0, 1), (0, 2), (), (0,)]
    assert support.judge([["a dog"]], [[]]) == [[type(found[0])((), 0)]]


def test_nli_support_with_a_real_model():
    support = NliSupport("lab:nli", threshold=0.5)
    told = [
        Statement("there is a large red ball.", "object", "one"),
        Statement("there is a green tree.", "object", "two"),
    ]
    (found,) = support.judge([["there is a red ball.", "there is a blue ball."]], [told])
    assert [one.experts for one in found] == [1, 0]
    assert found[0].statements == (0,)


def test_support_of_ones_own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from rlcap.fuse.support import Support, Provenance\n"
        "class Own(Support):\n"
        "    def judge(self, paragraphs, statements):\n"
        "        return [[Provenance((), 1) for _ in p] for p in paragraphs]\n"
    )
    assert load_support(SupportConfig(by=f"{file}:Own")).judge([["x"]], [[]])[0][0].experts == 1
    with pytest.raises(ConfigError, match="did you mean 'words'"):
        load_support(SupportConfig(by="word"))
    with pytest.raises(ConfigError, match="unknown parameter of support words 'shares'"):
        load_support(SupportConfig(params={"shares": 0.5}))
