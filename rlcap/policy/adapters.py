"""The choice between several adapters over one frozen base.

peft's `set_adapter` and `disable_adapter` also freeze every adapter that is not active. The policy and the value model
are trained in the same step, so this module changes only which adapter takes part in a forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn


@contextmanager
def using_adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Inside this context, `model` (or a part of a model) uses the adapter `name`, or the base alone for None.

    No `requires_grad` flag changes, and the previous choice is restored afterwards. A model without adapters is left
    unchanged.
    """
    layers = [part for part in model.modules() if isinstance(part, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    for layer in layers:
        layer._disable_adapters = name is None
        if name is not None:
            layer._active_adapter = [name]
    try:
        yield
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled
