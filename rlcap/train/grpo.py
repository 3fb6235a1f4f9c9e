"""GRPO on TRL's trainer, with a reward mix, a curriculum over bags, abstentions and shared prefixes.

`GRPOTrainer` replaces four parts of `trl.GRPOTrainer`: the sampler, the generation round, the split into micro-batches, and
the log-probabilities. The captions of an image share one pass over the image and its instruction, in generation, in the
reference pass and in the update (`rlcap.policy.captioner`). TRL provides the clipped loss, the KL term, the optimiser and
the checkpoints. With `use_vllm`, TRL also provides the generation round and the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.utils import gather, gather_object
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin, TrainerCallback
from trl.models import unwrap_model_for_generation

from rlcap.algo.kl import sequence_kl
from rlcap.config.schema import GRPOConfig
from rlcap.data.batching import Batching
from rlcap.data.control import ControlSampler, Instruction
from rlcap.data.curriculum import Adaptive, AdaptiveState, Curriculum, Stage
from rlcap.data.prompts import caption_prompt
from rlcap.data.sampler import GroupSampler
from rlcap.errors import BatchingError, ConfigError
from rlcap.io.atomic import append_rows
from rlcap.io.images import open_image
from rlcap.policy.adapters import using_adapter
from rlcap.policy.captioner import Captioner, GeneratedCaptions, evaluation_mode, unwrap_model
from rlcap.policy.dropout import disable_dropout
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.prompt import Prompt
from rlcap.reward.mix import MixScores, RewardMix
from rlcap.reward.trl_adapter import to_reward_batch
from rlcap.train.advantage_step import AdvantageStep
from rlcap.train.callbacks import CheckpointState, EpochOrder
from rlcap.train.checkpoints import read_state, step_of
from rlcap.train.dataset import DatasetRow, control_of, to_dataset
from rlcap.train.finite import FiniteTraining
from rlcap.train.reference import check_same_policy, copy_to_reference
from rlcap.train.refill import groups_without_signal, replace_groups
from rlcap.train.rollout import (
    Rollout,
    average_over_processes,
    decode_captions,
    mask_without_end,
    prepare_prompts,
    sample_captions,
    split_into_micro_batches,
    to_records,
)
from rlcap.train.round_rows import RoundRows
from rlcap.train.run_folder import RunFolder
from rlcap.train.step_times import StepTimes
from rlcap.train.trl_compat import NoModelCard, keep_inputs_without_gradient
from rlcap.train.trl_config import trl_config
from rlcap.types import RewardBatch, Sample

KL_IN_LOSS = ("loss", "loss_k3")
"""Choices of `train.kl` for which TRL's loss has the KL term."""


class GRPOTrainer(FiniteTraining, NoModelCard, trl.GRPOTrainer):
    """`trl.GRPOTrainer` with a reward mix, a curriculum, and an order of images that a resumed run continues.

    Args:
        model: The captioner model, as `rlcap.policy.loading.load_policy` returns it.
        processor: The processor of the model.
        samples: The training samples. Distractors that are not in `gallery` are ignored.
        config: The checked configuration.
        batching: The batch sizes, as `rlcap.data.batching.plan` returns them.
        folder: The run folder, to which rollouts and checkpoints are written.
        mix: The rewards.
        curriculum: Determines the size and the level of the bags at each step.
        gallery: Id → image path of all images that can be distractors.
        instruction: The instruction that all rows share; the control of a row adds its words.
        callbacks: Callbacks of the run, such as those of `OpenRun.callbacks`.
    """

    args: trl.GRPOConfig
    model: torch.nn.Module
    num_generations: int
    _buffered_inputs: Any  # the micro-batches of the present round; TRL annotates None

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        processor: ProcessorMixin,
        samples: Sequence[Sample],
        *,
        config: GRPOConfig,
        batching: Batching,
        folder: RunFolder,
        mix: RewardMix,
        curriculum: Curriculum,
        gallery: Mapping[str, str],
        instruction: str | Instruction,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.config, self.batching, self.folder = config, batching, folder
        self.mix, self.curriculum = mix, curriculum
        self.curriculum_state = curriculum.start() if isinstance(curriculum, Adaptive) else None
        self.group_sampler = GroupSampler.from_batching(batching, len(samples), config.train.seed)
        self.processor, self.instruction = processor, instruction
        dataset, controls = (
            to_dataset(samples, instruction),
            ControlSampler(config.generation.controls, config.train.seed),
        )
        self.round_rows = RoundRows(dataset, gallery, controls, config.train.seed)
        self._current_prompts: Sequence[Prompt] = ()
        self._is_checked = False
        self.times = StepTimes(self._log)
        # Captions are sampled without dropout. An update with dropout would compute the gradient of another policy.
        disable_dropout(model)
        self.captioner(model).instruct(instruction, list(controls.support()))  # raises before the run begins
        super().__init__(
            model=model,
            reward_funcs=[term.reward for term in mix.terms.values()],
            args=trl_config(config, batching, folder),
            train_dataset=dataset,
            # Given a processor, TRL requires tokens and attributes that only the vision-language models known to TRL have.
            processing_class=processor if config.train.use_vllm else getattr(processor, "tokenizer", processor),
            callbacks=[
                EpochOrder(),
                CheckpointState(folder, config.train.keep_checkpoints, self.state_dict),
                *callbacks,
            ],
        )
        copy_to_reference(model)
        keep_inputs_without_gradient(self.args, model)
        self.remove_callback(PrinterCallback)  # the progress bar and metrics.jsonl show what it would print
        if config.train.kl not in KL_IN_LOSS:
            self.beta = 0.0
        self.advantage_step = AdvantageStep(
            mix,
            config.train,
            self.num_generations,
            self.accelerator,
            getattr(processor, "tokenizer", processor),
            self._log,
        )
        self.reward_func_names = list(mix.names)
        self.reward_weights = torch.tensor(mix.weights, dtype=torch.float32)

    def _get_train_sampler(self, dataset: Any = None) -> GroupSampler:
        return self.group_sampler

    @property
    def stage(self) -> Stage:
        """Stage of the curriculum at the present step."""
        return self.curriculum.stage_at(self.state.global_step / self.state.max_steps, self.curriculum_state)

    def captioner(self, model: torch.nn.Module) -> Captioner:
        """Return a captioner around `model`, which may be wrapped."""
        return make_captioner(model, self.processor)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Return the micro-batch of this pass. Where the last round is used up, generate a new round first.

        TRL would shuffle the captions of the round. Here groups stay complete and in order, so that they share prefixes.
        """
        if self.use_vllm:
            inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
            return inputs
        passes = self.args.steps_per_generation or 1  # TRL sets the value when it checks its configuration
        if self._step % (passes * self.num_iterations) == 0 or self._buffered_inputs is None:
            with self.times.phase("round"):
                batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_into_micro_batches(batch, self.args.per_device_train_batch_size)
        return self._buffered_inputs[self._step % passes]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        stage = self.stage
        rows = [self.round_rows.complete(row, stage, self.group_sampler.epoch) for row in inputs]
        if self.use_vllm:
            return self._generate_with_vllm(rows, stage)
        rollout = self.generate_rollout(rows)
        if self.config.train.refill:
            rollout = self._refill(rollout, stage)
        signal = self.compute_training_signal(rollout)
        self._record(rollout.rows, rollout.batch, rollout.scores, signal, stage)
        return rollout.to_loss_inputs(signal, gather(rollout.mask.sum()).sum())

    def _refill(self, rollout: Rollout, stage: Stage) -> Rollout:
        """Return the rollout with other images in place of groups without signal, as far as `train.refill` attempts find some.

        All processes make the same number of attempts, since the captions of a round are generated together.
        """
        group, replaced = self.num_generations, 0
        count, process = len(rollout.prompts), self.accelerator.process_index
        step, epoch = self.state.global_step, self.group_sampler.epoch
        for attempt in range(self.config.train.refill):
            dead = groups_without_signal(self.advantage_step.combine_own(rollout.scores), group)
            if not int(gather(torch.tensor([len(dead)], device=self.accelerator.device)).sum()):
                break
            # A process without such a group generates one too, and drops it.
            used = {row["sample_id"] for row in rollout.rows}
            drawn = [
                self.round_rows.reserve(used, step, process * count + b, attempt, stage, epoch) for b in dead or [0]
            ]
            fresh = self.generate_rollout([row for row in drawn for _ in range(group)])
            still_dead = groups_without_signal(self.advantage_step.combine_own(fresh.scores), group)
            places = [(b, n) for n, b in enumerate(dead) if n not in still_dead]
            rollout = replace_groups(rollout, fresh, places, group, self.captioner(self.model).pad_id)
            replaced += len(places)
        self._log("refilled_groups", replaced / count)
        return rollout

    @torch.no_grad()
    def generate_rollout(self, rows: Sequence[DatasetRow]) -> Rollout:
        """Sample one caption for each row, score the captions, and compute the log-probabilities that the loss needs.

        Args:
            rows: N rows of this process with `distractor_images`; the rows of an image are adjacent.
        """
        generation = self.config.generation
        with (
            self.times.phase("generate"),
            unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model,
            self.accelerator.autocast(),
        ):
            # The captioner gets the unwrapped base model. In each forward pass of the wrapped model, a process waits for
            # the others under ZeRO-3, but processes run different numbers of passes, as their captions differ in length.
            captioner = self.captioner(unwrap_model(model))
            prompts = prepare_prompts(captioner, rows, self.num_generations, self.instruction)
            sampled = sample_captions(
                captioner,
                prompts,
                rows,
                seed=self.config.train.seed,
                step=self.state.global_step,
                max_new_tokens=generation.max_new_tokens,
                temperature=generation.temperature,
                top_p=generation.top_p,
            )
            greedy: GeneratedCaptions | None = None
            if self.config.train.aggregate == "sum_minus_greedy":
                greedy = captioner.generate(prompts, 1, max_new_tokens=generation.max_new_tokens, temperature=0)
        if not bool(torch.isfinite(sampled.log_probs[sampled.mask > 0]).all()):
            raise self.not_finite("the log-probabilities of the sampled captions are not finite")
        with self.times.phase("score"):
            batch, scores = self.score(rows, *decode_captions(sampled, captioner))
            greedy_scores: MixScores | None = None
            greedy_captions: Sequence[str] = ()
            if greedy is not None:
                greedy_batch, greedy_scores = self.score(
                    rows[:: self.num_generations], *decode_captions(greedy, captioner)
                )
                greedy_captions = greedy_batch.written
        old = ref = None
        is_sampled_policy = self.temperature == generation.temperature
        if self.batching.steps_per_generation_round() > 1 or not is_sampled_policy:
            with self.times.phase("old"):
                old = self._log_probs(self.model, prompts, sampled.ids, sampled.mask)
        if self.config.train.beta:
            with self.times.phase("reference"):
                ref = self._reference_log_probs(prompts, sampled.ids, sampled.mask)
        own = sampled.log_probs if is_sampled_policy or old is None else old
        self._check_start(prompts, sampled, own, ref)
        mask = sampled.mask if self.config.train.learn_end else mask_without_end(sampled, captioner)
        return Rollout(rows, prompts, sampled.ids, mask, batch, scores, own, old, ref, greedy_scores, greedy_captions)

    def _check_start(
        self, prompts: Sequence[Prompt], sampled: GeneratedCaptions, own: Tensor, ref: Tensor | None
    ) -> None:
        """Check once a session that an update sees the policy that sampled, and at the start of a run the reference.

        Raises:
            ReferenceModelError: The log-probabilities of the first micro-batch differ by more than rounding.
        """
        if self._is_checked:
            return
        self._is_checked = True
        rows = slice(0, self.args.per_device_train_batch_size)
        inputs = {"prompts": prompts, "completion_ids": sampled.ids, "completion_mask": sampled.mask}
        self._current_prompts = split_into_micro_batches(inputs, rows.stop)[0]["prompts"]
        ids, mask = sampled.ids[rows], sampled.mask[rows]
        self.model.train()  # as in an update
        update, _, _ = self._get_per_token_logps_and_entropies(self.model, ids, mask, ids.shape[1])
        check_same_policy("the pass in evaluation mode", update, own[rows], mask, self.model)
        if ref is not None and self.state.global_step == 0:
            check_same_policy("the reference model", update, ref[rows], mask, self.model)

    def score(
        self, rows: Sequence[DatasetRow], captions: Sequence[Any], truncated: Sequence[bool]
    ) -> tuple[RewardBatch, MixScores]:
        """Score N captions of this process by the mix.

        Args:
            rows: N rows of the data set.
            captions: N texts, or conversations as TRL makes them.
            truncated: N flags: whether the caption stopped at the token limit.

        Returns:
            The batch that the rewards received, and their scores.
        """
        values: Sequence[Mapping[str, object]] = rows
        columns = {key: [row[key] for row in values] for key in rows[0] if key not in ("prompt", "image")}
        columns["truncated"] = list(truncated)
        needs = frozenset().union(*self.mix.needs.values())
        batch = to_reward_batch([row["prompt"] for row in rows], captions, columns, needs)
        return batch, self.mix.score(batch)

    def compute_training_signal(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return the tensors of a rollout from which the loss computes the update.

        Returns:
            `advantages`, of shape (N,) in GRPO. With credit to claims they have the shape (N, C), and `caption_advantages` (N,) are those
            without it. A subclass can return other tensors, with N rows each.
        """
        train = self.config.train
        signal = self.advantage_step.compute(
            rollout.scores, rollout.batch.written, rollout.ids, rollout.mask, rollout.greedy, rollout.greedy_captions
        )
        if train.kl == "sequence" and train.beta:
            assert rollout.ref_log_probs is not None, "every rollout has reference log-probabilities if beta is above 0"
            kl = sequence_kl(rollout.sampled_log_probs, rollout.ref_log_probs, rollout.mask)
            self._log("kl/caption", gather(kl).mean())
            signal = {
                name: values - train.beta * (kl if values.dim() == 1 else kl[:, None] * rollout.mask)
                for name, values in signal.items()
            }
        return signal

    def _log_probs(self, model: torch.nn.Module, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        """Return the (N, C) log-probabilities at the temperature of the policy, computed micro-batch by micro-batch.

        The model is in evaluation mode, as in sampling.
        """
        whole = {"prompts": prompts, "completion_ids": ids, "completion_mask": mask}
        parts = []
        with evaluation_mode(model):
            for part in split_into_micro_batches(whole, self.args.per_device_train_batch_size):
                self._current_prompts = part["prompts"]
                part_ids, part_mask = part["completion_ids"], part["completion_mask"]
                parts.append(self._get_per_token_logps_and_entropies(model, part_ids, part_mask, ids.shape[1])[0])
        return torch.cat(parts)

    def _reference_log_probs(self, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        if self.ref_model is not None:
            return self._log_probs(self.ref_model, prompts, ids, mask)
        inner = self.accelerator.unwrap_model(self.model)
        with using_adapter(inner, "ref" if "ref" in inner.peft_config else None):
            return self._log_probs(self.model, prompts, ids, mask)

    def _compute_loss(self, model: torch.nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        self._current_prompts = inputs.get("prompts", ())
        self._last_inputs = inputs
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return (N, C) log-probabilities and entropies of the captions in `input_ids`, which continue the current prompts.

        TRL's loss calls this method. The prompts come from `_current_prompts`, because TRL's prompt tokens are empty here.
        """
        if self.use_vllm:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, compute_entropy=compute_entropy, **kwargs
            )
        with self.accelerator.autocast():
            result = self.captioner(model).log_probs(
                self._current_prompts,
                input_ids,
                attention_mask,
                temperature=self.temperature,
                entropies=compute_entropy,
            )
        return result.log_probs, result.entropies, None

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run TRL's forward and backward pass of one micro-batch, and log how long a step took.

        Raises:
            BatchingError: The GPU is out of memory. The message proposes a smaller micro-batch.
        """
        try:
            with self.times.update():
                loss = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        if self._step % self.current_gradient_accumulation_steps == 0:
            self.times.finish()
        return loss

    def _out_of_memory(self) -> BatchingError:
        smaller = self.batching.smaller_micro_batches()
        fix = f"set train.micro_batch={smaller[0]}" if smaller else "shorten generation.max_new_tokens"
        return BatchingError(
            f"out of memory in step {self.state.global_step + 1} with train.micro_batch={self.batching.micro_batch}: {fix}, or "
            "set train.gradient_checkpointing=true; then continue from the last checkpoint with resume=auto"
        )

    def _generate_with_vllm(self, rows: list[DatasetRow], stage: Stage) -> dict[str, Any]:
        """Return the result of TRL's own round, with the scores and advantages of the mix in it."""
        images = {path: open_image(path) for path in {row["image_path"] for row in rows}}
        instructions = self.captioner(self.model).instruct(self.instruction, [control_of(row) for row in rows])
        for row, text in zip(rows, instructions, strict=True):
            row["prompt"] = caption_prompt(text)
        output = super()._generate_and_score_completions([{**r, "image": images[r["image_path"]]} for r in rows])
        batch, scores = self._scored
        signal = self.advantage_step.compute(scores, batch.written, output["completion_ids"], output["completion_mask"])
        self._record(rows, batch, scores, signal, stage)
        return {**output, "advantages": signal["advantages"].to(output["advantages"].device)}

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Score the captions of TRL's own round, which calls this method for the rewards."""
        truncated = [not ids or ids[-1] not in self.eos_token_ids for ids in completion_ids_list]
        with self.times.phase("score"):
            self._scored = self.score(inputs, completions, truncated)
        return gather(self._scored[1].values.to(self.accelerator.device))

    def _log(self, name: str, value: float | Tensor) -> None:
        self._metrics["train"][name].append(float(value))

    def _record(
        self,
        rows: Sequence[DatasetRow],
        batch: RewardBatch,
        scores: MixScores,
        signal: Mapping[str, Tensor],
        stage: Stage,
    ) -> None:
        """Log the metrics of the round, write its captions to the file of rollouts, and update the adaptive curriculum."""
        lengths = [len(caption.split()) for caption in batch.written]
        own_metrics = {f"reward/{name}": value for name, value in scores.metrics.items()} | {
            "completions/mean_words": sum(lengths) / len(lengths),
            "completions/truncated": sum(batch.truncated) / len(lengths),
            "stage/bag_size": stage.bag_size,
        }
        metrics = average_over_processes(gather_object([own_metrics]))
        for name, value in metrics.items():
            self._log(name, value)
        head = {"step": self.state.global_step + 1, "stage": stage.name}
        asked = [{"control": sample.control.to_dict()} if sample.control else {} for sample in batch.samples]
        records = to_records(rows, batch.written, signal, scores)
        records = (head | own | record for own, record in zip(asked, records, strict=True))
        append_rows(self.folder.rollouts(self.accelerator.process_index), records, "the sampled captions")
        recalls = [value for name, value in metrics.items() if name.endswith("/bag_recall_at_1")]
        if isinstance(self.curriculum, Adaptive) and self.curriculum_state is not None and recalls:
            self.curriculum_state = self.curriculum.observe(self.curriculum_state, recalls[0])

    def state_dict(self) -> dict[str, Any]:
        """Return the part of the state of the run that TRL does not save, as plain JSON values.

        TRL saves the weights, the optimiser and the random generators.
        """
        curriculum = self.curriculum_state.to_dict() if self.curriculum_state is not None else None
        return {"mix": self.mix.state_dict(), "curriculum": curriculum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.mix.load_state_dict(state["mix"])
        if state["curriculum"] is not None:
            self.curriculum_state = AdaptiveState.from_dict(state["curriculum"])

    def restore(self, checkpoint: Path) -> None:
        """Restore the part of a checkpoint that TRL does not load.

        Args:
            checkpoint: Folder of the checkpoint.

        Raises:
            ConfigError: The checkpoint was saved in the middle of a round. The captions of the round are not saved, so the
                resumed run would differ from an uninterrupted one.
        """
        round_steps = self.batching.steps_per_generation_round()
        if step_of(checkpoint) % round_steps:
            raise ConfigError(
                f"{checkpoint} was saved in the middle of a round of {round_steps} steps on the same captions: resume from a "
                f"checkpoint whose step is a multiple of {round_steps}"
            )
        self.load_state_dict(read_state(checkpoint))
