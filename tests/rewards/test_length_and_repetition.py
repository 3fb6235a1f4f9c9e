"""The two counts that keep the default mix from being won by silence or by rambling."""

import pytest

from rlcap.rewards.length import Length
from rlcap.rewards.repetition import Repetition, repetition
from rlcap.rewards.repetition import penalty as repetition_penalty
from rlcap.scorers.text.lengths import gate, penalty, ramp
from rlcap.types import Control, RewardBatch, Sample


def words(n):
    return " ".join(f"w{i}" for i in range(n))


def batch(*captions, truncated=(), **sample):
    return RewardBatch(captions, [Sample("a", "a.png", **sample)] * len(captions), truncated=truncated)


def test_gate_golden():
    assert [gate(n, 100) for n in (49, 50, 200, 201)] == [False, True, True, False]


def test_penalty_golden():
    expected = {0: -1, 25: -0.5, 50: 0, 100: 0, 200: 0, 300: -0.5, 400: -1, 4000: -1}
    assert {n: penalty(n, 100) for n in expected} == pytest.approx(expected)


def test_ramp_golden():
    assert [ramp(n) for n in (0, 2048, 2560, 3072, 9999)] == [1, 1, 0.5, 0, 0]
    assert [s.value for s in Length(form="ramp", free=10, most=20).score(batch(words(15), words(9), ""))] == [0.5, 1, 1]


def test_bands_need_no_reference():
    rows = batch(words(9), words(10), words(15), words(50), words(101))
    assert [s.value for s in Length(form="gate", band="SSC").score(rows)] == [0, 1, 1, 0, 0]
    assert [s.value for s in Length(form="gate", band="DSC").score(rows)] == [0, 0, 0, 1, 0]
    assert [s.value for s in Length(form="gate", band="DSC+").score(rows)] == [0, 0, 0, 0, 1]
    assert Length(band="DSC").score(batch(words(20)))[0].value == -0.5
    with pytest.raises(ValueError, match="band must be SSC, DSC, DSC\\+ or null, got 'long'"):
        Length(band="long")


def test_gate_form_and_penalty_form():
    rows = batch(words(49), words(50), words(200), words(201), "", paragraph=words(100))
    assert [s.value for s in Length(form="gate").score(rows)] == [0, 1, 1, 0, 0]
    assert [s.value for s in Length().score(rows)] == pytest.approx([-0.02, 0, 0, -0.005, -1])


def test_reference_length_is_target_then_paragraph_then_references():
    sample = Sample("a", "a.png", references=(words(8), words(12), " "), paragraph=words(60))
    assert Length(target=30).reference_words(sample) == 30
    assert Length().reference_words(sample) == 60
    short = Sample("a", "a.png", references=(words(8), words(12), " "))
    assert Length().reference_words(short) == 10
    assert Length(references="sum").reference_words(short) == 20


def test_a_row_requests_its_own_length_or_format():
    reward = Length(form="gate", target="control", low=0.9, high=1.1)
    texts = [words(40), words(40), words(40), words(12), words(40), words(40)]
    controls = [
        Control(length=40),
        Control(length=44),
        Control(length=60),
        Control(format="SSC"),
        Control(format="SSC"),
        Control(),
    ]
    rows = [Sample("a", "a.png", paragraph=words(40), control=control) for control in controls]
    scores = reward.score(RewardBatch(texts, rows))
    assert [score.value for score in scores] == [1, 1, 0, 1, 0, None]
    assert scores[5].reason == "the row requests no length and no format with a band"
    both = [Sample("a", "a.png", control=Control(length=40, format="SSC"))]  # the number is the more exact demand
    assert reward.score(RewardBatch([words(40)], both))[0].value == 1
    assert Length(target="control").score(RewardBatch([words(10)], [rows[0]]))[0].value == -0.5
    with pytest.raises(ValueError, match="leave it out to read the row's own format"):
        Length(target="control", band="SSC")


def test_nothing_to_compare_with_abstains_unless_it_was_cut_off():
    scores = Length().score(batch("a", "a", truncated=(False, True)))
    assert scores[0].abstained
    assert "no target" in scores[0].reason
    assert scores[1].value == -1


def test_truncated_captions_get_the_lowest_value():
    rows = batch(words(100), words(100), truncated=(True, False), paragraph=words(100))
    assert [s.value for s in Length().score(rows)] == [-1, 0]
    assert [s.value for s in Length(form="gate").score(rows)] == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0}, "low must be above 0, got 0"),
        ({"low": 4}, "low must be at most high, but low is 4 and high is 2.0"),
        ({"low": float("nan")}, "low must be above 0, got nan"),
        ({"free": 0}, "free must be above 0, got 0"),
        ({"free": 3072}, "free must be below most, but free is 3072 and most is 3072"),
        ({"form": "x"}, "form must be penalty, gate or ramp, got 'x'"),
        ({"references": "x"}, "references must be mean or sum, got 'x'"),
        ({"target": 0}, "target must be above 0, got 0"),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Length(**options)


def test_repetition_golden():
    assert repetition("a cat and a cat and a cat") == pytest.approx(0.5)
    assert repetition("A cat. A dog. A cat.") == pytest.approx(1 / 3)
    assert repetition("A red ball lies beside a blue cube. A dog sleeps on the grass.") == 0
    assert repetition("") == 0
    assert repetition("ball " * 2000) > 0.99


def test_what_plain_prose_repeats_is_free_so_that_padding_gains_nothing():
    assert [repetition_penalty(share) for share in (0, 0.2, 1)] == [0, 0, -1]
    assert repetition_penalty(0.6) == pytest.approx(-0.5)
    plain = "There is a red ball. There is a blue box. There is a green tree."
    padded = f"{plain} What a perfect description this has become."
    assert repetition(plain) > repetition(padded) > 0
    assert [score.value for score in Repetition().score(batch(plain, padded))] == [0, 0]
    assert Repetition(free=0).score(batch(plain))[0].value == -repetition(plain)
    with pytest.raises(ValueError, match=r"free is a share and must lie in \[0, 1\), got 1"):
        Repetition(free=1)


@pytest.mark.parametrize("reward", [Length(target=10), Repetition()])
def test_order_batch_unicode_and_long_captions(reward):
    captions = ["a ball", "", "ball " * 2000, "Größe 猫と犬 🐱", "x" * 10_000]
    together = reward.score(batch(*captions))
    assert together[:] == reward.score(batch(*captions[::-1]))[::-1]
    assert list(together) == [reward.score(batch(caption))[0] for caption in captions]
    low, high = reward.range
    assert all(low <= score.value <= high for score in together)


def test_neither_silence_nor_rambling_wins():
    rows = batch("A red ball lies on the green grass.", "", "a red ball " * 60, paragraph=words(10))
    length, repeated = Length().score(rows), Repetition().score(rows)
    totals = [a.value + b.value for a, b in zip(length, repeated, strict=True)]
    assert totals[0] == 0
    assert totals[1] == -1
    assert totals[2] < -1.9
