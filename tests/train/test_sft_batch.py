"""The batch size of SFT is the configured one on any number of processes."""

from types import SimpleNamespace

import pytest
from tiny import captioner

from rlcap.config.supervised import SFTConfig, SFTTrainConfig
from rlcap.errors import ConfigError
from rlcap.policy.loading import Policy
from rlcap.train.run_folder import RunFolder
from rlcap.train.sft import build_trainer
from rlcap.types import Sample

SAMPLES = [Sample("a", "a.png", paragraph="a ball .")]


def build(tmp_path, monkeypatch, processes):
    monkeypatch.setattr("rlcap.train.arguments.PartialState", lambda: SimpleNamespace(num_processes=processes))
    config = SFTConfig(train=SFTTrainConfig(batch_size=32, micro_batch=8))
    policy = Policy(*captioner(), "tiny", None)
    return build_trainer(policy, SAMPLES, config, "describe", RunFolder(tmp_path)).args


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 4), (2, 2), (4, 1)])
def test_the_batch_is_divided_among_processes(tmp_path, monkeypatch, processes, accumulation):
    arguments = build(tmp_path, monkeypatch, processes)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (8, accumulation)


def test_an_indivisible_batch_is_rejected(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"32 can't be divided among 3 processes .* a multiple of 24 can"):
        build(tmp_path, monkeypatch, 3)
