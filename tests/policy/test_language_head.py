import pytest
import torch
from torch import nn

from rlcap.policy import language_head as heads
from rlcap.policy.language_head import compute_log_probs, skip_head
from rlcap.policy.tokens import entropy, token_log_probs


@pytest.mark.parametrize("floats", [1, 70, 2**20])
def test_chunks_give_the_same_result_as_a_single_pass(monkeypatch, floats):
    monkeypatch.setattr(heads, "MAX_LOGITS", floats)
    torch.manual_seed(0)
    head, states, ids = nn.Linear(6, 11), torch.randn(3, 5, 6, requires_grad=True), torch.randint(0, 11, (3, 5))
    expected = token_log_probs(head(states), ids, 0.8), entropy(head(states), 0.8)
    actual = compute_log_probs(states, ids, head, 0.8, entropies=True)
    weights = torch.randn(2, 3, 5)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    inputs = [states, head.weight, head.bias]
    gradients = [torch.autograd.grad((weights * torch.stack(x)).sum(), inputs) for x in (actual, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_only_one_chunk_of_logits_is_in_memory(monkeypatch):
    monkeypatch.setattr(heads, "MAX_LOGITS", 100)
    head, states, ids = nn.Linear(6, 50), torch.randn(4, 5, 6, requires_grad=True), torch.zeros(4, 5, dtype=torch.long)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        compute_log_probs(states, ids, head)
    assert max(kept) <= 2 * 50 + states.numel() + head.weight.numel()
    assert sum(n for n in kept if n > head.weight.numel()) < ids.numel() * 50


def test_a_skipped_head_is_restored():
    head = nn.Linear(2, 3)
    states = torch.randn(1, 2)

    def fails():
        with skip_head(head):
            assert torch.equal(head(states), states)
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fails()
    assert head(states).shape == (1, 3)


def test_half_precision_heads_accept_single_precision_states():
    head = nn.Linear(4, 9).bfloat16()
    log_probs, _ = compute_log_probs(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), head)
    assert log_probs.dtype == torch.float32
