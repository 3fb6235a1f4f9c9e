"""Advantages worked by hand, against their definition, and blind to padding."""

import pytest
import torch

from rlcap.algo.gae import gae, moments, token_rewards, whiten

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]])


def test_token_rewards_golden():
    kl = torch.tensor([[0.1, -0.2, 0.3, 99.0], [1.0, 1.0, 1.0, 1.0], [0.5, 99.0, 99.0, 99.0]])
    actual = token_rewards(torch.tensor([2.0, -1.0, 3.0]), kl, MASK, 0.5)
    expected = [[-0.05, 0.1, 1.85, 0.0], [-0.5, -0.5, -0.5, -1.5], [2.75, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(actual, torch.tensor(expected))
    assert token_rewards(torch.ones(1), torch.ones(1, 2), torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_gae_golden():
    # backwards: d2 = 1 - .4 = .6; d1 = .9 * .4 - .2 = .16, A1 = .16 + .45 * .6 = .43; d0 = .9 * .2 - .1 = .08, A0 = .2735
    rewards, values = torch.tensor([[0.0, 0.0, 1.0, 7.0]]), torch.tensor([[0.1, 0.2, 0.4, 5.0]])
    advantages, returns = gae(rewards, values, MASK[:1], gamma=0.9, lam=0.5)
    torch.testing.assert_close(advantages, torch.tensor([[0.2735, 0.43, 0.6, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.3735, 0.63, 1.0, 0.0]]))


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_gae_is_the_weighted_sum_of_its_definition(gamma, lam):
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(3, 4, generator=generator, dtype=torch.double) * MASK for _ in range(2))
    actual, _ = gae(rewards, values, MASK, gamma=gamma, lam=lam)
    after = torch.cat([values, torch.zeros(3, 1)], 1)[:, 1:]
    deltas = (rewards + gamma * after - values) * MASK
    expected = sum((gamma * lam) ** k * torch.cat([deltas, torch.zeros(3, 4)], 1)[:, k : k + 4] for k in range(4))
    torch.testing.assert_close(actual, expected * MASK)


def test_without_discount_and_trace_decay_it_is_the_outcome_less_the_value():
    rewards, values = torch.tensor([[0.0, -0.5, 2.0]]), torch.tensor([[0.3, 0.1, 0.7]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3), gamma=1.0, lam=1.0)
    torch.testing.assert_close(returns, torch.tensor([[1.5, 1.5, 2.0]]))
    torch.testing.assert_close(advantages, returns - values)


def test_padding_has_no_influence():
    rewards, values = torch.randn(3, 4), torch.randn(3, 4)
    clean = gae(rewards, values, MASK)
    dirty = gae(torch.where(MASK > 0, rewards, torch.nan), torch.where(MASK > 0, values, torch.inf), MASK)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a, b)
        assert not a[MASK == 0].any()


def test_no_gradient_flows():
    assert not any(
        x.requires_grad for x in gae(torch.randn(1, 2), torch.randn(1, 2, requires_grad=True), MASK[1:2, :2])
    )


def test_whitening_over_processes_is_whitening_of_all():
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) * 3 + 5
    white = whiten(values, MASK)
    counted = white[MASK > 0]
    assert counted.mean().item() == pytest.approx(0, abs=1e-6)
    assert counted.std().item() == pytest.approx(1, abs=1e-6)
    assert not white[MASK == 0].any()
    totals = moments(values[:1], MASK[:1]) + moments(values[1:], MASK[1:])
    parts = torch.cat([whiten(values[:1], MASK[:1], totals), whiten(values[1:], MASK[1:], totals)])
    torch.testing.assert_close(parts, white)
    kept = whiten(values, MASK, shift=False)[MASK > 0]
    torch.testing.assert_close(kept, values[MASK > 0] / values[MASK > 0].std())


def test_whitening_does_not_amplify_tiny_differences():
    assert whiten(torch.full((2, 2), 3.0), torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert whiten(torch.tensor([[3.0, 9.0]]), torch.tensor([[1, 0]])).tolist() == [[0, 0]]
