"""AdamW with a one-cycle learning rate, for the small models of the lab and of the scorers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn


def one_cycle(
    parameters: Iterable[nn.Parameter], lr: float, steps: int, warm_up: float = 0.1
) -> Callable[[torch.Tensor], None]:
    """Return a function that takes a loss and makes one optimiser step.

    The step clips gradients to norm 1 and uses AdamW. The returned function raises torch's RuntimeError after more than
    `steps` updates.

    Args:
        parameters: the parameters to train.
        lr: peak of the learning rate, which then falls to nearly zero at the last step.
        steps: number of updates.
        warm_up: share of the steps, in [0, 1], over which the learning rate rises to `lr`.
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
