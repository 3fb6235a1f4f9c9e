"""Estimators against the divergence itself, and the controller on numbers worked by hand."""

import json
import math

import pytest
import torch

from rlcap.algo.kl import AdaptiveKL, k1, k2, k3, sequence_kl


def test_golden():
    ours, theirs = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    assert k1(ours, theirs).item() == pytest.approx(math.log(2))
    assert k2(ours, theirs).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(ours, theirs).item() == pytest.approx(0.5 + math.log(2) - 1)


def test_unbiased_ones_are_the_divergence_on_average():
    policy, reference = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.5, 0.3]).log()
    true = (policy.exp() * (policy - reference)).sum()
    for estimator in (k1, k3):
        torch.testing.assert_close((policy.exp() * estimator(policy, reference)).sum(), true)


def test_the_gradient_of_k2_is_that_of_the_divergence():
    logits, reference = torch.tensor([0.1, -0.4, 0.7], requires_grad=True), torch.tensor([0.2, 0.5, 0.3]).log()
    policy = logits.log_softmax(0)
    expected = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)[0]
    actual = torch.autograd.grad((policy.detach().exp() * k2(policy, reference)).sum(), logits)[0]
    torch.testing.assert_close(actual, expected)


def test_none_where_the_two_agree():
    same = torch.randn(2, 3)
    assert all(not estimator(same, same).any() for estimator in (k1, k2, k3))


def test_a_captions_sum_leaves_padding_out_and_has_no_gradient():
    ours, theirs = torch.zeros(2, 3, requires_grad=True), torch.tensor([[-1.0, -2.0, -9.0], [-0.5, -9.0, -9.0]])
    actual = sequence_kl(ours, theirs, torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert actual.tolist() == [3.0, 0.5]
    assert not actual.requires_grad


@pytest.mark.parametrize(
    ("kl", "factor"), [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (5.4, 0.99), (0.0, 0.98), (-4.0, 0.98)]
)
def test_the_controller(kl, factor):
    before = AdaptiveKL(0.2, target=6.0)
    assert before.observe(kl).coefficient == pytest.approx(0.2 * factor)
    assert before.coefficient == 0.2


def test_the_controller_goes_through_json():
    state = AdaptiveKL(0.2, 6.0).observe(7.0)
    assert AdaptiveKL.from_dict(json.loads(json.dumps(state.to_dict()))) == state
