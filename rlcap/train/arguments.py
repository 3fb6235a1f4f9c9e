"""The training arguments that supervised recipes have in common."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState

from rlcap.config.supervised import DPOConfig, SFTConfig
from rlcap.errors import ConfigError
from rlcap.train.run_folder import RunFolder


def supervised_arguments(config: SFTConfig | DPOConfig, folder: RunFolder) -> dict[str, Any]:
    """Return the arguments of `transformers.TrainingArguments` that SFT and DPO share.

    Args:
        config: The checked configuration.
        folder: The run folder, to which checkpoints are written.

    Raises:
        ConfigError: The batch can't be divided among the processes.
    """
    train, processes = config.train, PartialState().num_processes
    accumulation, rest = divmod(train.batch_size, train.micro_batch * processes)
    if rest or not accumulation:
        raise ConfigError(
            f"train.batch_size {train.batch_size} can't be divided among {processes} processes in micro-batches of "
            f"{train.micro_batch}; a multiple of {train.micro_batch * processes} can"
        )
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder.checkpoints),
        "max_steps": train.steps,
        "per_device_train_batch_size": train.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "cosine",
        "save_strategy": "steps",
        "save_steps": train.save_every,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "disable_tqdm": True,
        "report_to": [*config.report_to] or "none",
        "run_name": folder.root.name,
        "remove_unused_columns": False,
        "use_cpu": not on_gpu,
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        "seed": train.seed,
        "dataloader_pin_memory": on_gpu,
    }
