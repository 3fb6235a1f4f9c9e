"""What can't be loaded is told in one line that names the key, the value and what to give instead."""

import pytest

from rlcap.config import ModelConfig
from rlcap.policy.load import load_policy
from rlcap.types import ConfigError


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"base": "/nowhere/captioner"},
            r"model.base '/nowhere/captioner' \(there is no such file or folder here\) can't be loaded",
        ),
        ({"base": "nobody/nothing"}, r"model.base 'nobody/nothing' .*give a model's folder or hub name"),
        ({"base": "lab:captoner"}, "model.base 'lab:captoner' can't be loaded: unknown lab asset 'captoner'; known:"),
        ({"adapter": "/nowhere/adapter"}, r"model.adapter '/nowhere/adapter' \(there is no such file or folder here\)"),
        ({"adapter": "lab:adaptr"}, "unknown lab asset 'adaptr'"),
    ],
)
def test_a_model_that_is_not_there(model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_policy(ModelConfig(**model))
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model(tmp_path):
    with pytest.raises(ConfigError, match=r"model.base '.*' can't be loaded: Unrecognized processing class"):
        load_policy(ModelConfig(base=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"holds no adapter_config.json: it is not a peft adapter"):
        load_policy(ModelConfig(adapter=str(tmp_path)))
