import math

import pytest
import torch

from rlcap.algo.total import standardised_parts

NAN = math.nan


def standardised_total(*args, **options):
    return standardised_parts(*args, **options).sum(1).float()


def test_golden_totals_with_abstentions_that_add_zero():
    values = torch.tensor([[1.0, 10.0], [3.0, NAN], [NAN, NAN], [NAN, 30.0]])
    actual = standardised_total(values, [1.0, 0.5], [2.0, 20.0], [0.5, 10.0])
    assert actual.tolist() == [-2.5, 2.0, 0.0, 0.5]


def test_a_constant_term_adds_zero():
    values = torch.tensor([[0.5 + 1e-6, 1.0], [0.5, 0.0]])
    assert standardised_total(values, [1.0, 1.0], [0.5, 0.5], [1e-6, NAN]).tolist() == [0.0, 0.0]
    wide = standardised_total(values, [0.0, 1.0], [0.5, 0.5], [1.0, 0.05], reward_ranges=[math.inf, 1000.0])
    assert wide.tolist() == [0.0, 0.0]


def test_errors():
    with pytest.raises(ValueError, match="stds must have one entry for each of 2"):
        standardised_total(torch.zeros(1, 2), [1.0, 1.0], [0.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="infinite"):
        standardised_total(torch.tensor([[math.inf]]), [1.0], [0.0], [1.0])
