import math

import pytest
import torch

from rlcap.policy.tokens import entropy, keep_nucleus, sample_tokens, token_log_probs


def test_log_probs_agree_with_a_manual_computation():
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, 0.0]]])
    actual = token_log_probs(logits, torch.tensor([[1, 0]]))
    assert torch.allclose(actual, torch.tensor([[math.log(0.75), math.log(0.5)]]))


def test_temperature_divides_the_logits():
    logits = torch.tensor([[0.0, 2 * math.log(3)]])
    assert token_log_probs(logits, torch.tensor([1]), temperature=2.0).item() == pytest.approx(math.log(0.75))


def test_half_precision_logits_are_normalised_in_single_precision():
    logits = torch.randn(3, 5, 1000).bfloat16()
    ids = torch.randint(0, 1000, (3, 5))
    expected = logits.double().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    assert token_log_probs(logits, ids).dtype == torch.float32
    assert torch.allclose(token_log_probs(logits, ids).double(), expected, atol=1e-5)


def test_entropy_of_a_uniform_distribution_is_the_logarithm_of_its_size():
    assert entropy(torch.zeros(2, 3, 8)).flatten().tolist() == pytest.approx([math.log(8)] * 6)


@pytest.mark.parametrize(("top_p", "kept"), [(1.0, 4), (0.95, 4), (0.85, 3), (0.4, 1), (1e-9, 1)])
def test_the_nucleus_keeps_the_most_likely_words(top_p, kept):
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log() + torch.tensor([0.0, 0.0, 0.0, 1e-4])
    assert (keep_nucleus(logits, top_p) > -torch.inf).sum() == kept


def test_samples_follow_the_distribution():
    sampling_uniforms = torch.arange(6000, dtype=torch.double) / 6000
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(6000, 3)
    shares = sample_tokens(logits, 1.0, 1.0, sampling_uniforms).bincount(minlength=3) / 6000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=1e-3)
    assert set(sample_tokens(logits, 1.0, 0.7, sampling_uniforms).tolist()) == {0, 1}
    assert set(sample_tokens(logits, 0, 1.0, sampling_uniforms).tolist()) == {0}


def test_an_impossible_word_is_never_sampled():
    sampling_uniforms = torch.arange(5000, dtype=torch.double) / 5000
    logits = torch.full((5000, 4), -torch.inf).index_fill(1, torch.tensor([1, 2]), 0.0)
    assert set(sample_tokens(logits, 1.0, 1.0, sampling_uniforms).tolist()) == {1, 2}
