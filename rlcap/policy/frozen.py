"""A test whether a part of a model stays unchanged for the whole run, so that its outputs can be cached."""

from __future__ import annotations

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn


def is_frozen(model: nn.Module, *excluded: nn.Module | None) -> bool:
    """Return whether no part of `model` outside the modules `excluded` is trained or carries an adapter.

    A frozen adapter counts as a change as well, because another pass may switch it off.
    """
    excluded_modules = {id(part) for module in excluded if module is not None for part in module.modules()}
    excluded_weights = {id(p) for module in excluded if module is not None for p in module.parameters()}
    return not any(
        isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper)
        for part in model.modules()
        if id(part) not in excluded_modules
    ) and not any(p.requires_grad for p in model.parameters() if id(p) not in excluded_weights)
