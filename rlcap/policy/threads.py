"""The number of CPU threads for a decoding step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_LAYER_FLOPS = 50e6
"""Floating-point operations of a linear layer below which a second thread costs more than it saves.

Waking the thread takes as long as the whole product (measured on two cores with sleeping threads,
OMP_WAIT_POLICY=PASSIVE, at 5 to 540 million operations).
"""


@contextmanager
def limit_threads(model: torch.nn.Module, rows: int) -> Iterator[None]:
    """Inside this context, torch uses one CPU thread where more threads would not pay off.

    That is the case if the model is on the CPU, its linear layers are small work for one token of each of `rows`
    sequences, and waiting threads sleep, as the recipes set it (`rlcap.train.process`). Otherwise the number of threads
    stays as it is. The layers of an adapter, all of them small, do not count.
    """
    threads_sleep, threads_before = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE", torch.get_num_threads()
    if threads_sleep and threads_before > 1:
        sizes = [
            module.weight.numel()
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module.weight.device.type == "cpu" and ".lora_" not in name
        ]
        if sizes and 2 * rows * sum(sizes) / len(sizes) < SMALL_LAYER_FLOPS:
            torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
