"""GRPO on TRL's trainer: shared prefixes, bags from the curriculum, rewards from the mix, advantages that know abstentions.

The seams of `trl.GRPOTrainer` that are used: the sampler, the generation round, the cut into micro-batches, and the
log-probabilities. An image and its instruction are read once for the captions of its group, in generation, in the
reference pass and in the update (`rlcap.policy.captioner`); the clipped loss, the KL term, the optimiser and the
checkpoints stay TRL's. With `use_vllm` the round and the log-probabilities are TRL's too.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.utils import gather, gather_object
from torch import Tensor
from transformers import PrinterCallback, TrainerCallback
from trl.models import unwrap_model_for_generation

from rlcap.algo.advantages import Advantages, combine
from rlcap.algo.kl import sequence_kl
from rlcap.config.schema import GRPOConfig
from rlcap.data.bags import random_distractors
from rlcap.data.batching import Batching
from rlcap.data.curriculum import Adaptive, AdaptiveState, Curriculum, Stage
from rlcap.data.sampler import GroupSampler
from rlcap.errors import BatchingError, ConfigError
from rlcap.io.images import open_image
from rlcap.policy.adapters import using_adapter
from rlcap.policy.captioner import Captioner, GeneratedCaptions, evaluation_mode, unwrap_model
from rlcap.policy.dropout import disable_dropout
from rlcap.policy.families.registry import make_captioner
from rlcap.policy.prompt import Prompt
from rlcap.reward.mix import MixScores, RewardMix
from rlcap.reward.trl_adapter import to_reward_batch
from rlcap.train.callbacks import CheckpointState, EpochOrder
from rlcap.train.dataset import to_dataset
from rlcap.train.rollout import Rollout, as_rows, mean_of_all, micro_batches, prepare, write
from rlcap.train.run_folder import STATE, RunFolder, append_lines, step_of
from rlcap.train.trl_compat import NoModelCard, keep_inputs_without_gradient
from rlcap.train.trl_config import trl_config
from rlcap.types import RewardBatch, Sample

MODEL_PHASES = ("generate", "old", "reference", "values")
"""Phases of a round in which the captioner (or its critic) computes."""


class GRPOTrainer(NoModelCard, trl.GRPOTrainer):
    """`trl.GRPOTrainer` with a mix of rewards, a curriculum and an order of images that resumes.

    Args:
        model, processor: as `rlcap.policy.loading.load_policy` gives them.
        samples: training rows; their distractor ids must be among `gallery`.
        gallery: id → image path, for bags.
        instruction: what the captioner is asked.
    """

    args: trl.GRPOConfig
    num_generations: int
    _buffered_inputs: Any  # the micro-batches of the present round; TRL annotates None

    def __init__(
        self,
        model: Any,
        processor: Any,
        samples: Sequence[Sample],
        *,
        config: GRPOConfig,
        batching: Batching,
        folder: RunFolder,
        mix: RewardMix,
        curriculum: Curriculum,
        gallery: Mapping[str, str],
        instruction: str,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.config, self.batching, self.folder = config, batching, folder
        self.mix, self.curriculum, self.gallery = mix, curriculum, dict(gallery)
        self.curriculum_state = curriculum.start() if isinstance(curriculum, Adaptive) else None
        self.own_sampler = GroupSampler.from_batching(batching, len(samples), config.train.seed)
        self.processor, self.instruction = processor, instruction
        self._reading: Sequence[Prompt] = ()
        self._update_seconds = 0.0
        disable_dropout(model)  # captions are written without it; with it the same weights would have another policy
        super().__init__(
            model=model,
            reward_funcs=[component.reward for component in mix.terms.values()],
            args=trl_config(config, batching, folder),
            train_dataset=to_dataset(samples, instruction),
            # told of a tokenizer, TRL expects no tokens and names that only its own vision-language models have
            processing_class=processor if config.train.use_vllm else getattr(processor, "tokenizer", processor),
            callbacks=[EpochOrder(), CheckpointState(folder, self.state_dict), *callbacks],
        )
        keep_inputs_without_gradient(self.args, model)
        self.remove_callback(PrinterCallback)  # the bar and metrics.jsonl say it all
        if config.train.kl != "loss":
            self.beta = 0.0
        self.reward_func_names = list(mix.names)
        self.reward_weights = torch.tensor(mix.weights, dtype=torch.float32)

    def _get_train_sampler(self, dataset: Any = None) -> GroupSampler:
        return self.own_sampler

    @property
    def stage(self) -> Stage:
        """The curriculum's stage at the present step."""
        return self.curriculum.stage_at(self.state.global_step / self.state.max_steps, self.curriculum_state)

    def bag(self, row: Mapping[str, Any], stage: Stage) -> list[str]:
        """Image paths of the row's distractors at `stage`. A function of the row and the stage alone."""
        if stage.level == "random":
            ids = self._random_bags(stage.bag_size)[row["sample_id"]]
        else:
            ids = json.loads(row["distractors"]).get(stage.level, [])
        return [self.gallery[i] for i in ids if i in self.gallery][: stage.distractors]

    @functools.lru_cache(maxsize=4)  # noqa: B019  one trainer a process
    def _random_bags(self, size: int) -> dict[str, tuple[str, ...]]:
        return random_distractors(self.gallery, min(size, len(self.gallery)), 0)

    def captioner(self, model: Any) -> Captioner:
        """`model` (wrapped or not) as a captioner."""
        return make_captioner(model, self.processor)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """The micro-batch of this pass; a new round where the last one is used up. Groups stay whole and in order."""
        if self.use_vllm:
            inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
            return inputs
        passes = self.args.steps_per_generation or 1  # TRL sets it when it checks its configuration
        if self._step % (passes * self.num_iterations) == 0 or self._buffered_inputs is None:
            with self.phase("round"):
                batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = micro_batches(batch, self.args.per_device_train_batch_size)
        return self._buffered_inputs[self._step % passes]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        stage = self.stage
        rows = [{**row, "distractor_images": self.bag(row, stage)} for row in inputs]
        if self.use_vllm:
            return self._vllm_round(rows, stage)
        rollout = self.generate_rollout(rows)
        signal = self.compute_training_signal(rollout)
        self._record(rows, rollout.batch, rollout.scores, signal["advantages"], stage)
        return rollout.batch_of(signal, gather(rollout.mask.sum()).sum())

    @torch.no_grad()
    def generate_rollout(self, rows: Sequence[Mapping[str, Any]]) -> Rollout:
        """Captions of N rows, scored."""
        generation = self.config.generation
        with (
            self.phase("generate"),
            unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model,
            self.accelerator.autocast(),
        ):
            # the base alone: processes write captions of different lengths, and on what is wrapped around it ZeRO-3 waits
            # for the others at each forward
            captioner = self.captioner(unwrap_model(model))
            prompts = prepare(captioner, rows, self.num_generations, self.instruction)
            written = write(
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
        with self.phase("score"):
            batch, scores = self.score(rows, *self._texts(written, captioner))
            greedy_values = None
            if greedy is not None:
                _, of_greedy = self.score(rows[:: self.num_generations], *self._texts(greedy, captioner))
                greedy_values = of_greedy.values.repeat_interleave(self.num_generations, 0)
        old = ref = None
        if self.batching.steps_per_generation_round() > 1:
            with self.phase("old"):
                old = self._log_probs(self.model, prompts, written.ids, written.mask)
        if self.config.train.beta:
            with self.phase("reference"):
                ref = self._reference_log_probs(prompts, written.ids, written.mask)
        return Rollout(
            rows, prompts, written.ids, written.mask, batch, scores, written.log_probs, old, ref, greedy_values
        )

    def _texts(self, written: GeneratedCaptions, captioner: Captioner) -> tuple[list[str], list[bool]]:
        """Captions as rewards see them, and of each whether it was cut off at the token limit."""
        ends = torch.tensor(captioner.end_ids, device=written.ids.device)
        ended = (torch.isin(written.ids, ends) & (written.mask > 0)).any(1)
        return captioner.decode(written.ids), (~ended).tolist()

    def score(
        self, rows: Sequence[Mapping[str, Any]], captions: Sequence[Any], truncated: Sequence[bool]
    ) -> tuple[RewardBatch, MixScores]:
        """The mix's scores of N captions of this process."""
        columns = {key: [row[key] for row in rows] for key in rows[0] if key not in ("prompt", "image")}
        columns["truncated"] = list(truncated)
        needs = frozenset().union(*self.mix.needs.values())
        batch = to_reward_batch([row["prompt"] for row in rows], captions, columns, needs)
        return batch, self.mix.score(batch)

    def compute_training_signal(self, rollout: Rollout) -> dict[str, Tensor]:
        """What the update learns from: `advantages`, (N,) for GRPO, and what else a subclass's loss takes, N rows each."""
        train, advantages = self.config.train, self._advantages(rollout.scores, rollout.greedy)
        if train.kl == "sequence" and train.beta:
            assert rollout.ref_log_probs is not None, "beta above 0 has the reference model read each rollout"
            kl = sequence_kl(rollout.sampled_log_probs, rollout.ref_log_probs, rollout.mask)
            self._log("kl/caption", gather(kl).mean())
            advantages = advantages - train.beta * kl
        return {"advantages": advantages}

    def _advantages(self, scores: MixScores, greedy: Tensor | None = None) -> Tensor:
        """(N,) of this process's captions; their statistics are of all processes'. `greedy`: as in `Rollout`."""
        device, train = self.accelerator.device, self.config.train
        values = gather(scores.values.to(device)).cpu()
        combined = combine(
            values,
            self.mix.weights,
            self.num_generations,
            normalize=self.mix.normalize,
            aggregate=train.aggregate,
            whiten=train.whiten,
            reward_ranges=self.mix.reward_ranges,
            running_std=self.mix.running.stds(),
            baseline=self.mix.moments.means() if greedy is None else gather(greedy.to(device)).cpu(),
        )
        self.mix.running.update(combined.std_pooled.tolist())
        self.mix.moments.update(values.T.tolist())
        self._log_spread(scores.names, combined)
        count, rank = len(scores.values), self.accelerator.process_index
        return combined.advantages[rank * count : (rank + 1) * count].to(device)

    def _log_probs(self, model: Any, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        """(N, C) at the sampling temperature, in evaluation mode as in sampling, micro-batch by micro-batch."""
        whole = {"prompts": prompts, "completion_ids": ids, "completion_mask": mask}
        parts = []
        with evaluation_mode(model):
            for part in micro_batches(whole, self.args.per_device_train_batch_size):
                self._reading = part["prompts"]
                part_ids, part_mask = part["completion_ids"], part["completion_mask"]
                parts.append(self._get_per_token_logps_and_entropies(model, part_ids, part_mask, ids.shape[1])[0])
        return torch.cat(parts)

    def _reference_log_probs(self, prompts: Sequence[Prompt], ids: Tensor, mask: Tensor) -> Tensor:
        if self.ref_model is not None:
            return self._log_probs(self.ref_model, prompts, ids, mask)
        inner = self.accelerator.unwrap_model(self.model)
        with using_adapter(inner, "ref" if "ref" in inner.peft_config else None):
            return self._log_probs(self.model, prompts, ids, mask)

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        self._reading = inputs.get("prompts", ())
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(N, C) log-probabilities of the captions in `input_ids` that continue `self._reading`, and their entropies.

        TRL's loss asks for them here; the prompts it would pass along are empty, as they were read apart.
        """
        if self.use_vllm:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, compute_entropy=compute_entropy, **kwargs
            )
        with self.accelerator.autocast():
            found = self.captioner(model).log_probs(
                self._reading, input_ids, attention_mask, temperature=self.temperature, entropies=compute_entropy
            )
        return found.log_probs, found.entropies, None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Run TRL's step, and log its seconds without those of the round that it may begin with."""
        before = sum(self._metrics["train"].get("seconds/round", ()))
        start = time.perf_counter()
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        round_seconds = sum(self._metrics["train"].get("seconds/round", ())) - before
        self._update_seconds += time.perf_counter() - start - round_seconds
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._log("seconds/update", self._update_seconds)
            self._log("outside_model_share", self._outside_model(self._update_seconds))
            self._update_seconds = 0.0
        return loss

    def _outside_model(self, update: float) -> float:
        """Share of the step in which the captioner did not compute: scoring, packing, logging. In [0, 1]."""
        spent = {name: sum(self._metrics["train"].get(f"seconds/{name}", ())) for name in ("round", *MODEL_PHASES)}
        outside = spent["round"] - sum(spent[name] for name in MODEL_PHASES)
        return max(0.0, outside) / (spent["round"] + update)

    def _out_of_memory(self) -> BatchingError:
        smaller = self.batching.smaller_micro_batches()
        fix = f"set train.micro_batch={smaller[0]}" if smaller else "shorten generation.max_new_tokens"
        return BatchingError(
            f"out of memory in step {self.state.global_step + 1} with train.micro_batch={self.batching.micro_batch}: {fix}, or "
            "train.gradient_checkpointing=true, and go on from the last checkpoint with resume=auto"
        )

    def _vllm_round(self, rows: list[dict[str, Any]], stage: Stage) -> dict[str, Any]:
        """TRL's own round, with our scores and advantages in it."""
        images = {path: open_image(path) for path in {row["image_path"] for row in rows}}
        output = super()._generate_and_score_completions([{**r, "image": images[r["image_path"]]} for r in rows])
        batch, scores = self._scored
        advantages = self._advantages(scores)
        self._record(rows, batch, scores, advantages, stage)
        return {**output, "advantages": advantages.to(output["advantages"].device)}

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        """Where TRL's own round asks for rewards."""
        truncated = [not ids or ids[-1] not in self.eos_token_ids for ids in completion_ids_list]
        with self.phase("score"):
            self._scored = self.score(inputs, completions, truncated)
        return gather(self._scored[1].values.to(self.accelerator.device))

    def _log(self, name: str, value: float | Tensor) -> None:
        self._metrics["train"][name].append(float(value))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within, wall-clock seconds count as `seconds/<name>` of the step."""
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._log(f"seconds/{name}", time.perf_counter() - start)

    def _log_spread(self, names: Sequence[str], combined: Advantages) -> None:
        for k, name in enumerate(names):
            self._log(f"reward/{name}/std_within_group", combined.std_within_group[k])
            self._log(f"reward/{name}/zero_variance_groups", combined.zero_variance_share_by_term[k])
        self._log("zero_variance_groups", combined.zero_variance_share)

    def _record(
        self, rows: Sequence[Mapping], batch: RewardBatch, scores: MixScores, advantages: Tensor, stage: Stage
    ) -> None:
        """Metrics of the step, the rollouts' file, and the adaptive curriculum's observation."""
        lengths = [len(caption.split()) for caption in batch.captions]
        found = {f"reward/{name}": value for name, value in scores.metrics.items()} | {
            "completions/mean_words": sum(lengths) / len(lengths),
            "completions/truncated": sum(batch.truncated) / len(lengths),
            "stage/bag_size": stage.bag_size,
        }
        metrics = mean_of_all(gather_object([found]))
        for name, value in metrics.items():
            self._log(name, value)
        head = {"step": self.state.global_step + 1, "stage": stage.name}
        written = (head | row for row in as_rows([r["sample_id"] for r in rows], batch.captions, advantages, scores))
        append_lines(self.folder.rollouts(self.accelerator.process_index), written)
        recalls = [value for name, value in metrics.items() if name.endswith("/bag_recall_at_1")]
        if isinstance(self.curriculum, Adaptive) and self.curriculum_state is not None and recalls:
            self.curriculum_state = self.curriculum.observe(self.curriculum_state, recalls[0])

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: what a resumed run needs besides weights, optimiser and generators, which are TRL's to keep."""
        curriculum = self.curriculum_state.to_dict() if self.curriculum_state is not None else None
        return {"mix": self.mix.state_dict(), "curriculum": curriculum}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a `state_dict`."""
        self.mix.load_state_dict(state["mix"])
        if state["curriculum"] is not None:
            self.curriculum_state = AdaptiveState.from_dict(state["curriculum"])

    def restore(self, checkpoint: Path) -> None:
        """Take up what TRL doesn't load from a checkpoint.

        ConfigError for one in the midst of a round, whose captions are gone: what followed would be another run.
        """
        rounds = self.batching.steps_per_generation_round()
        if step_of(checkpoint) % rounds:
            raise ConfigError(
                f"{checkpoint} lies in the midst of a round of {rounds} steps on the same captions: resume from one whose "
                f"step is a multiple of {rounds}"
            )
        self.load_state_dict(json.loads((checkpoint / STATE).read_text()))
