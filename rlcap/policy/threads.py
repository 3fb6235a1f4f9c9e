"""How many CPU threads a decoding step is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 50e6
"""Floating-point operations of a linear layer below which a second thread costs more than it brings: to wake it takes as long
as the whole product (measured on two cores with sleeping threads, OMP_WAIT_POLICY=PASSIVE, at 5 to 540 million)."""


@contextmanager
def limit_threads(model: torch.nn.Module, rows: int) -> Iterator[None]:
    """Within, torch computes with one thread if the model is on the CPU, its layers are small work for one token of each of
    `rows` sequences, and waiting threads sleep, as the recipes have them (`rlcap.train.process`); else with as many as before.
    An adapter's own layers, all of them small, don't count."""
    asleep, before = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE", torch.get_num_threads()
    if asleep and before > 1:
        sizes = [
            module.weight.numel()
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module.weight.device.type == "cpu" and ".lora_" not in name
        ]
        if sizes and 2 * rows * sum(sizes) / len(sizes) < SMALL:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
