"""PPO: a value model gives each token its own advantage. Rollouts, rewards, curriculum, logs and checkpoints are GRPO's.

Three things differ from `GRPOTrainer`:

- The training signal: the total of the mix and the KL divergence are rewards of tokens, from which generalised advantage
  estimation computes advantages with the help of the value model.
- The loss: the loss of the value model is added to TRL's loss of the policy.
- The optimiser: the value model has its own learning rate and its own gradient norm.

The method is that of Ziegler et al. 2019 (arXiv 1909.08593), with a reward mix in place of a reward model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from torch import Tensor

from rlcap.algo.advantages import combine
from rlcap.algo.gae import gae, moments, token_rewards, whiten
from rlcap.algo.kl import AdaptiveKL, k1
from rlcap.algo.total import standardised_parts, totals_with_credit
from rlcap.algo.value_loss import explained_variance, value_loss
from rlcap.config.schema import PPOConfig
from rlcap.policy.captioner import evaluation_mode
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.value_model import ValueModel, belongs_to_value_model
from rlcap.train.grpo import GRPOTrainer
from rlcap.train.rollout import Rollout, split_into_micro_batches
from rlcap.train.token_credit import end_values


class PPOTrainer(GRPOTrainer):
    """`GRPOTrainer` with a value model.

    The arguments are the same. `model` must be a peft model, to which the trainer adds the adapter of the value model.

    Raises:
        ConfigError: The model has no adapter.
    """

    config: PPOConfig
    model: torch.nn.Module

    def __init__(self, model: Any, processor: Any, *args: Any, config: PPOConfig, **kwargs: Any) -> None:
        self.value_model = ValueModel.attach(model, make_captioner(model, processor))
        train = config.train
        target = train.kl_target
        self.kl = AdaptiveKL(train.beta, target, train.kl_gain) if target is not None else None
        super().__init__(model, processor, *args, config=config, **kwargs)
        self.value_model.require_grad()  # peft froze it when TRL added the reference

    @property
    def kl_coefficient(self) -> float:
        """The present cost of one nat of KL divergence at a token; 0 if the KL term is part of the loss."""
        train = self.config.train
        if train.kl != "token":
            return 0.0
        return self.kl.coefficient if self.kl is not None else train.beta

    @torch.no_grad()
    def compute_training_signal(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return `advantages`, `values` and `returns`, (N, C) each, and 0 where the mask is 0."""
        train, mask = self.config.train, rollout.mask
        with self.times.phase("values"), evaluation_mode(self.model), self.accelerator.autocast():
            values = self._values(rollout)
        scores, credit = self._totals(rollout)
        kl, per_caption = torch.zeros_like(values), 0.0
        if rollout.ref_log_probs is not None:
            kl = k1(rollout.sampled_log_probs, rollout.ref_log_probs) * mask
            per_caption = float(gather(kl.sum(1)).mean())
        rewards = token_rewards(scores, kl, mask, self.kl_coefficient) + credit * mask
        advantages, returns = gae(rewards, values, mask, gamma=train.gamma, lam=train.lam)
        totals = gather(torch.stack([moments(x, mask) for x in (returns - values, returns, values, advantages)])[None])
        errors, targets, predicted, spread = totals.sum(0)
        self._log("value/explained_variance", explained_variance(errors, targets))
        self._log("value/mean", predicted[1] / predicted[0])
        self._log("kl/caption", per_caption)
        self._log("kl/coefficient", self.kl_coefficient)
        if self.kl is not None:
            self.kl = self.kl.observe(per_caption)
        if train.whiten:
            advantages = whiten(advantages, mask, spread)
        return {"advantages": advantages, "values": values, "returns": returns}

    def _values(self, rollout: Rollout) -> Tensor:
        """Return the (N, C) values of the present value model, computed micro-batch by micro-batch."""
        whole = {"prompts": rollout.prompts, "completion_ids": rollout.ids, "completion_mask": rollout.mask}
        captioner = self.captioner(self.model)
        return torch.cat(
            [
                self.value_model.values(captioner, part["prompts"], part["completion_ids"], part["completion_mask"])
                for part in split_into_micro_batches(whole, self.args.per_device_train_batch_size)
            ]
        )

    def _totals(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Return the (N,) rewards of the captions of this process and the (N, C) further rewards of their tokens.

        Both are in units of the std over all captions so far. Without credit to claims, tokens have no rewards of their own.
        """
        device, mix, train = self.accelerator.device, self.mix, self.config.train
        weights = rollout.scores.weights
        values = gather(rollout.scores.values.to(device)).cpu()
        # PPO does not compare captions within groups, but the dashboard shows the spread within groups for each term.
        self.advantage_step.log_spread(
            mix.names, combine(values, weights, self.num_generations, reward_ranges=mix.reward_ranges)
        )
        mix.observe_round(values)
        parts = standardised_parts(
            rollout.scores.values, weights, mix.moments.means(), mix.moments.stds(), mix.reward_ranges
        )
        self._log("reward/total", gather(parts.sum(1).float().to(device)).mean())
        if train.credit == "caption":
            return parts.sum(1).float().to(device), torch.zeros_like(rollout.sampled_log_probs)
        tokenizer = self.advantage_step.tokenizer
        ends = end_values(rollout.scores, rollout.batch.written, rollout.ids, rollout.mask, tokenizer)
        mix.credit_moments.update(gather(ends.sum(2).to(device)).T.tolist())
        captions, tokens = totals_with_credit(
            parts,
            ends,
            weights,
            mix.credit_moments.means(),
            mix.credit_moments.stds(),
            mix.credit_shares(train.credit_share),
        )
        return captions.to(device), tokens.to(device)

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        train, ids, mask = self.config.train, inputs["completion_ids"], inputs["completion_mask"]
        loss = super()._compute_loss(model, inputs)
        with self.accelerator.autocast():
            values = self.value_model.values(self.captioner(model), inputs["prompts"], ids, mask)
        errors = (value_loss(values, inputs["values"], inputs["returns"], train.value_clip) * mask).sum()
        summed, count = self.accelerator.reduce(torch.stack([errors.detach(), mask.sum()]))
        self._log("value/loss", summed / count)
        # The loss is the mean over all tokens of the step, and a round has the tokens of `minibatches` steps.
        tokens = inputs["num_items_in_batch"] / self.accelerator.num_processes / self.batching.minibatches
        return loss + train.value_coefficient * errors / tokens

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return TRL's optimiser, with separate parameter groups for the value model."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        owner = self.model if model is None else model
        value_ids = {id(p) for name, p in owner.named_parameters() if belongs_to_value_model(name)}
        rate = self.config.train.value_learning_rate or self.config.train.learning_rate
        for group in list(optimizer.param_groups):
            value_parameters = [p for p in group["params"] if id(p) in value_ids]
            group["params"] = [p for p in group["params"] if id(p) not in value_ids]
            if value_parameters:
                optimizer.add_param_group({**group, "params": value_parameters, "lr": rate})
        return optimizer

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Clip the gradients of policy and value model separately, and return the norm of the policy's gradient.

        With a common norm, the large gradients of an untrained value model would slow the policy down.
        """
        if self.is_deepspeed_enabled:
            return super()._clip_grad_norm(model)  # DeepSpeed clips the sharded gradients itself, and only all together
        value_parameters: list[Tensor] = []
        policy_parameters: list[Tensor] = []
        for name, parameter in model.named_parameters():
            (value_parameters if belongs_to_value_model(name) else policy_parameters).append(parameter)
        self._log("value/grad_norm", self.accelerator.clip_grad_norm_(value_parameters, self.args.max_grad_norm))
        return self.accelerator.clip_grad_norm_(policy_parameters, self.args.max_grad_norm)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:  # transformers (since 5.24) calls this method in every process
            self.value_model.save(Path(output_dir or str(self.args.output_dir)), state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.value_model.load(Path(resume_from_checkpoint))
        self.value_model.require_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `GRPOTrainer` with the adaptive KL coefficient."""
        return super().state_dict() | {"kl": self.kl.to_dict() if self.kl is not None else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        if self.kl is not None and state.get("kl"):
            self.kl = AdaptiveKL.from_dict(state["kl"])
