"""Trackers: every one that transformers knows, and none that is not installed."""

import pytest

from rlcap.config.loading import load_config
from rlcap.config.required import require_complete
from rlcap.config.schema import GRPOConfig
from rlcap.config.supervised import SFTConfig
from rlcap.config.trackers import NEEDS, find_missing
from rlcap.errors import ConfigError

COMPLETE = ["model.base=m", "data.source=rows.jsonl"]


def test_the_trackers_are_those_of_transformers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(NEEDS) == set(INTEGRATION_TO_CALLBACK)
    for name in NEEDS:
        assert load_config(SFTConfig, None, [f"report_to={name}"]).report_to == [name]


def test_what_counts_as_installed_is_what_transformers_counts():
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    ours = {name for name in NEEDS if not find_missing([name])}
    # transformers leaves flyte out of its own list, and azure_ml where mlflow is installed
    assert ours - {"flyte", "azure_ml"} == set(get_available_reporting_integrations()) - {"azure_ml"}


def test_a_tracker_that_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr("rlcap.config.trackers._is_installed", lambda module: module == "wandb")
    config = load_config(SFTConfig, None, [*COMPLETE, "report_to=[wandb, comet_ml, tensorboard, dagshub]"])
    with pytest.raises(ConfigError) as refused:
        require_complete(config)
    assert str(refused.value).splitlines() == [
        "report_to names comet_ml, which is not installed: pip install 'comet-ml>=3.43.2'",
        "report_to names tensorboard, which is not installed: pip install tensorboard",
        "report_to names dagshub, which is not installed: pip install dagshub mlflow",
    ]
    require_complete(load_config(SFTConfig, None, [*COMPLETE, "report_to=wandb"]))


def test_kubeflow_needs_its_variable(monkeypatch):
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL", raising=False)
    assert find_missing(["kubeflow"]) == [
        "report_to names kubeflow, which needs the environment variable KUBEFLOW_TRAINER_SERVER_URL"
    ]
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "http://localhost")
    assert find_missing(["kubeflow"]) == []


def test_a_module_of_a_package_that_is_not_installed_is_not_installed():
    assert find_missing(["azure_ml", "flyte"])  # azureml.core.run and flytekitplugins.deck have packages around them


def test_a_misspelt_tracker_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"report_to\.1 is 'trackoi'; did you mean trackio\?"):
        load_config(GRPOConfig, None, ["report_to=[wandb, trackoi]"])
