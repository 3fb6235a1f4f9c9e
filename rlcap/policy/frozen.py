"""Which part of a model stays as it is for the whole run, so that what it computes may be kept."""

from __future__ import annotations

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn


def is_frozen(model: nn.Module, *besides: nn.Module | None) -> bool:
    """Whether nothing of `model` outside the modules `besides` is trained or carries an adapter.

    A frozen adapter counts as well: another pass may switch it off.
    """
    left_out = {id(part) for module in besides if module is not None for part in module.modules()}
    weights = {id(p) for module in besides if module is not None for p in module.parameters()}
    return not any(
        isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper)
        for part in model.modules()
        if id(part) not in left_out
    ) and not any(p.requires_grad for p in model.parameters() if id(p) not in weights)
