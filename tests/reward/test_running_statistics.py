"""What is carried from round to round, against the numbers of all rounds at once."""

import json
import math
import statistics

import pytest

from rlcap.reward.running_statistics import RunningMoments

NAN = math.nan
ROUNDS = ([1.0, 2.0, 3.0], [10.0, NAN, 14.0], [NAN, NAN], [7.0])


def fed(rounds, **options):
    found = RunningMoments(["a", "silent"], **options)
    for values in rounds:
        found.update([values, [NAN]])
    return found


def test_all_rounds_alike():
    found, everything = fed(ROUNDS), [1, 2, 3, 10, 14, 7]
    assert found.means()[0] == pytest.approx(statistics.mean(everything))
    assert found.stds()[0] == pytest.approx(statistics.pstdev(everything))
    assert math.isnan(found.means()[1])
    assert math.isnan(found.stds()[1])


def test_the_past_fades():
    found = fed([[0.0, 2.0], [4.0, 4.0]], decay=0.5)
    # the first two captions count one half each, the last two one each
    assert found.means()[0] == pytest.approx((0.5 * 0 + 0.5 * 2 + 4 + 4) / 3)
    assert found.stds()[0] ** 2 == pytest.approx((0.5 * 0 + 0.5 * 4 + 16 + 16) / 3 - 3**2)


def test_goes_through_json():
    one, other = fed(ROUNDS), RunningMoments(["a", "silent"])
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for moments in (one, other):
        moments.update([[5.0], [1.0]])
    assert one.state_dict() == other.state_dict()


def test_one_caption_has_no_std():
    assert math.isnan(fed([[3.0]]).stds()[0])


def test_errors():
    with pytest.raises(ValueError, match=r"decay must lie in \(0, 1\]"):
        RunningMoments(["a"], decay=0)
    with pytest.raises(ValueError, match="1 columns for the terms a, b"):
        RunningMoments(["a", "b"]).update([[1.0]])
