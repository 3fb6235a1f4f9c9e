import math

import pytest

from rlcap.algo.ordering import ordering_agreement


def test_ordering_agreement_golden():
    assert ordering_agreement([3.0, 2.0, 1.0], [0.9, 0.5, 0.1]) == 1
    assert ordering_agreement([1.0, 2.0, 3.0], [0.9, 0.5, 0.1]) == 0
    assert ordering_agreement([2.0, 2.0, 1.0], [0.9, 0.5, 0.45]) == pytest.approx((0.5 + 1) / 2)
    assert ordering_agreement([math.nan, 2.0, 1.0], [0.9, 0.5, 0.1]) == 1
    assert math.isnan(ordering_agreement([1.0, 2.0], [0.5, 0.55]))
