"""Dropout off, for good: reinforcement weighs what the policy has said under the policy as it spoke."""

from __future__ import annotations

from torch import nn


def disable_dropout(model: nn.Module) -> None:
    """No module of `model` drops anything from now on, in training mode either.

    Modules of dropout get the rate 0, and so do the rates that attention layers (`attention_dropout`) and decoders
    (`dropout`, `layerdrop`) keep as plain numbers and read when they are in training mode.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("dropout" in name or name == "layerdrop"):
                setattr(module, name, 0.0)
