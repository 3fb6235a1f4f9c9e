import pytest
import torch
from peft import LoraConfig, get_peft_model

from rlcap.policy.threads import limit_threads


@pytest.fixture(autouse=True)
def two_threads_that_sleep(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "threads"), [(64, 1), (64_000, 2)])
def test_small_layers_use_one_thread(rows, threads):
    with limit_threads(torch.nn.Sequential(torch.nn.Linear(128, 320), torch.nn.Linear(320, 128)), rows):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_actively_waiting_threads_keep_their_number(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY")
    with limit_threads(torch.nn.Linear(128, 320), 64):
        assert torch.get_num_threads() == 2


def test_adapter_layers_do_not_count():
    base = torch.nn.Sequential(torch.nn.Linear(2000, 2000), torch.nn.Linear(2000, 2000))
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["0", "1"]))
    with limit_threads(adapted, 7):  # 56 million a layer; a third of that with the adapter's among them
        assert torch.get_num_threads() == 2


def test_the_number_of_threads_is_restored_after_an_error():
    with pytest.raises(RuntimeError), limit_threads(torch.nn.Linear(2, 2), 1):
        raise RuntimeError
    assert torch.get_num_threads() == 2
    with limit_threads(torch.nn.Conv2d(1, 1, 1), 1):
        assert torch.get_num_threads() == 2
