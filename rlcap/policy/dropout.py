"""Disabling dropout for a whole run.

Reinforcement learning compares the probability of a caption with the one under which it was sampled, so both passes
must be deterministic.
"""

from __future__ import annotations

from torch import nn


def disable_dropout(model: nn.Module) -> None:
    """Disable dropout in every module of `model`, in training mode as well.

    Dropout modules get the rate 0. So do the rates that attention layers (`attention_dropout`) and decoders (`dropout`,
    `layerdrop`) keep as plain numbers and read in training mode.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or name == "layerdrop"):
                setattr(module, name, 0.0)
