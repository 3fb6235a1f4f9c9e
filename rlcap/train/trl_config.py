"""Translates the configuration of a run into the configuration of TRL's trainer."""

from __future__ import annotations

from typing import Any

import torch
import trl

from rlcap.config.schema import GRPOConfig, PPOConfig
from rlcap.data.batching import Batching
from rlcap.train.run_folder import RunFolder


def trl_config(config: GRPOConfig, batching: Batching, folder: RunFolder) -> trl.GRPOConfig:
    """Return the configuration of TRL's trainer.

    Args:
        config: The checked configuration.
        batching: The batch sizes.
        folder: The run folder, to which checkpoints are written.
    """
    train, generation = config.train, config.generation
    on_cpu = not torch.cuda.is_available()
    rounds = batching.steps_per_generation_round()
    constant = train.schedule == "constant"
    batch: dict[str, Any] = dict(batching.trl())
    return trl.GRPOConfig(
        output_dir=str(folder.checkpoints),
        **batch,
        max_steps=train.steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type="constant" if constant else "cosine_with_min_lr",
        lr_scheduler_kwargs={} if constant else {"min_lr_rate": 0.1},
        warmup_steps=0 if constant else max(1, train.steps // 10),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim="adamw_torch_fused",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        beta=train.beta,  # set even if the loss has no KL term, because TRL keeps the starting adapter only if beta > 0
        epsilon=train.epsilon,
        loss_type=train.loss_type,
        # What follows are choices that decide the algorithm. They are written down although TRL has the same defaults today.
        use_bias_correction_kl=train.kl != "loss_k3",
        importance_sampling_level="token",
        delta=None,
        epsilon_high=None,
        mask_truncated_completions=False,
        sync_ref_model=False,
        top_entropy_quantile=1.0,
        entropy_coef=0.0,
        use_adaptive_entropy=False,
        off_policy_mask_threshold=None,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode="sequence_mask",
        vllm_importance_sampling_clip_max=3.0,
        min_p=None,
        repetition_penalty=1.0,
        scale_rewards="group",
        max_completion_length=generation.max_new_tokens,
        temperature=train.policy_temperature or generation.temperature or 1.0,
        top_p=generation.top_p,
        top_k=0,
        use_vllm=train.use_vllm,
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},  # reentrant checkpointing drops the prefix's gradient
        bf16=not on_cpu and torch.cuda.is_bf16_supported(),
        use_cpu=on_cpu,
        seed=train.seed,
        data_seed=train.seed,
        save_strategy="steps",
        save_steps=-(-train.save_every // rounds) * rounds,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is not finite must be seen
        disable_tqdm=True,
        report_to=[*config.report_to] or "none",
        run_name=folder.root.name,
        remove_unused_columns=False,
        # Policy and value model run one after the other, and each pass uses only its own parameters.
        ddp_find_unused_parameters=False if isinstance(config, PPOConfig) else None,
        shuffle_dataset=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
    )
