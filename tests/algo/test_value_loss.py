import math

import pytest
import torch

from rlcap.algo.gae import moments
from rlcap.algo.value_loss import explained_variance, value_loss


@pytest.mark.parametrize(
    ("value", "old", "target", "clip", "loss"),
    [
        (1.0, 0.0, 3.0, None, 2.0),
        (1.0, 0.0, 3.0, 0.2, 0.5 * 2.8**2),  # went the right way, too far: the clipped error is the larger one
        (-1.0, 0.0, 3.0, 0.2, 8.0),  # went the wrong way: its own error is
        (0.1, 0.0, 3.0, 0.2, 0.5 * 2.9**2),
    ],
)
def test_golden(value, old, target, clip, loss):
    actual = value_loss(*(torch.tensor([[x]]) for x in (value, old, target)), clip)
    assert actual.item() == pytest.approx(loss)


def test_a_value_beyond_the_clip_on_the_right_side_has_no_gradient():
    values = torch.tensor([[1.0, -1.0, 0.1]], requires_grad=True)
    value_loss(values, torch.zeros(1, 3), torch.full((1, 3), 3.0), 0.2).sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, -4.0, -2.9]]))


def test_explained_variance():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[1, 1, 1, 0]])

    def share(values, returns):
        return explained_variance(moments(returns - values, mask), moments(returns, mask))

    assert share(returns, returns) == 1
    assert share(torch.full((1, 4), 5.0), returns) == pytest.approx(0)
    assert share(-returns, returns) == pytest.approx(-3)
    assert math.isnan(share(returns, torch.ones(1, 4)))
