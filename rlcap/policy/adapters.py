"""Several adapters over one frozen base: which of them takes part in a forward.

peft's own `set_adapter` and `disable_adapter` also freeze every adapter that is not active. Policy and critic are trained
in the same step, so that here nothing but the choice changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper
from torch import nn


@contextmanager
def using_adapter(model: nn.Module, name: str | None) -> Iterator[None]:
    """Within, forwards of `model` (or of a part of it) go through the adapter `name`, or through the base alone (None).

    No `requires_grad` changes, and afterwards the choice is what it was. A model without adapters is left as it is.
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
