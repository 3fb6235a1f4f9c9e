"""The experiment trackers that transformers knows, and which of them are installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

Tracker = Literal[
    "azure_ml",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "dvclive",
    "flyte",
    "kubeflow",
    "mlflow",
    "neptune",
    "swanlab",
    "tensorboard",
    "trackio",
    "wandb",
]
"""The names in transformers' table of reporting integrations. A test compares them, since importing transformers takes seconds."""


class Needs(NamedTuple):
    """What a tracker needs on this machine."""

    modules: tuple[tuple[str, ...], ...] = ()
    """Of each group, one module must be installed."""
    packages: str = ""
    """What pip installs."""
    variable: str = ""
    """An environment variable that must be set."""


NEEDS: dict[Tracker, Needs] = {
    "azure_ml": Needs((("azureml.core.run",),), "azureml-sdk"),
    "clearml": Needs((("clearml",),), "clearml"),
    "codecarbon": Needs((("codecarbon",),), "codecarbon"),
    "comet_ml": Needs((("comet_ml",),), "'comet-ml>=3.43.2'"),
    "dagshub": Needs((("dagshub",), ("mlflow",)), "dagshub mlflow"),
    "dvclive": Needs((("dvclive",),), "dvclive"),
    "flyte": Needs((("flytekit",), ("flytekitplugins.deck",)), "flytekit flytekitplugins-deck-standard pandas"),
    "kubeflow": Needs(variable="KUBEFLOW_TRAINER_SERVER_URL"),
    "mlflow": Needs((("mlflow",),), "mlflow"),
    "neptune": Needs((("neptune",),), "neptune"),
    "swanlab": Needs((("swanlab",),), "swanlab"),
    "tensorboard": Needs((("tensorboard", "tensorboardX"),), "tensorboard"),
    "trackio": Needs((("trackio",),), "trackio"),
    "wandb": Needs((("wandb",),), "wandb"),
}
"""Tracker → what it needs, as transformers checks it."""


def find_missing(trackers: Sequence[Tracker]) -> list[str]:
    """Return one line for each tracker that can't be used on this machine, with the command or variable that it needs."""
    lines = []
    for name in trackers:
        needs = NEEDS[name]
        if not all(any(map(_is_installed, group)) for group in needs.modules):
            lines.append(f"report_to names {name}, which is not installed: pip install {needs.packages}")
        elif needs.variable and not os.environ.get(needs.variable):
            lines.append(f"report_to names {name}, which needs the environment variable {needs.variable}")
    return lines


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False
