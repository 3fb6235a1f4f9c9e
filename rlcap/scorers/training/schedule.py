"""One learning-rate cycle with AdamW: how the small models of the lab and of the scorers are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn


def one_cycle(
    parameters: Iterable[nn.Parameter], lr: float, steps: int, warm_up: float = 0.1
) -> Callable[[torch.Tensor], None]:
    """A function that takes a loss and makes one update: gradients clipped to norm 1, AdamW, and a learning rate that
    rises to `lr` over the share `warm_up` of `steps` and falls to nearly zero at their end.

    RuntimeError from torch at more than `steps` updates.
    """
    parameters = list(parameters)
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=warm_up)

    def update(loss: torch.Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()

    return update
